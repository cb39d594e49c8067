"""Runs with their first, random weights, for benchmarks whose times do not depend on what was learnt."""

from __future__ import annotations

from pathlib import Path

import torch

from m3pc_ray.config import RunConfig
from m3pc_ray.critic.trainer import IQLTrainer
from m3pc_ray.online.preparation import prepare
from m3pc_ray.training.assemble import build_models
from m3pc_ray.training.btm_trainer import BTMTrainer
from m3pc_ray.training.checkpoints import save_checkpoint
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.training.trainer_state import pack_training
from m3pc_ray.trajectories.episodes import Trajectories


def untrained_run(path: Path, config: RunConfig, trajectories: Trajectories) -> RunFolder:
    """A pretraining run that says it has had one update of everything."""
    run = RunFolder.create(path, config, "pretrain")
    models = build_models(config, trajectories)
    trainer = BTMTrainer(models.model, config.pretrain, config.masks, torch.float32, config.seed)
    tensors, optimizers = pack_training(models, trainer, IQLTrainer(models.critic, config.critic))
    state = {"models": models.description(), "btm_updates": 1, "critic_updates": 1, "optimizers": optimizers}
    save_checkpoint(run, 1, tensors, state)
    return run


def untrained_online_run(folder: Path, config: RunConfig, trajectories: Trajectories) -> RunFolder:
    """A finetuning run at its step 0, `folder`/online, ready for `m3pc resume`; `config` names the data set."""
    return prepare(untrained_run(folder / "pretrained", config, trajectories), folder / "online", config)
