"""From a configuration and data to models, and from a run folder back to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from m3pc_ray.baselines.dynamics import transition_rows
from m3pc_ray.config import RunConfig
from m3pc_ray.critic.iql import IQLCritic
from m3pc_ray.errors import UserError
from m3pc_ray.model.mlp import complete_rows
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.planning.prompts import ReturnPrompt
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.episodes import DatasetMetadata, Trajectories
from m3pc_ray.trajectories.returns import discounted_returns
from m3pc_ray.trajectories.statistics import Statistics, compute_statistics


@dataclass(frozen=True)
class Models:
    """What a policy consists of, and the facts about the task that go with it."""

    config: RunConfig
    model: TrajectoryModel
    critic: IQLCritic
    critic_updates: int
    """Updates the critic has had; 0: it is untrained and must not guide."""
    statistics: Statistics
    prompt: ReturnPrompt
    metadata: DatasetMetadata
    """Of the data trained on: environment id, bounds, reference scores."""
    time_limit: int

    @property
    def environment_id(self) -> str:
        return self.metadata.environment_id

    @property
    def action_low(self) -> np.ndarray:
        return np.asarray(self.metadata.action_low, dtype=np.float32)

    @property
    def action_high(self) -> np.ndarray:
        return np.asarray(self.metadata.action_high, dtype=np.float32)

    def description(self) -> dict[str, Any]:
        """JSON-able part of a checkpoint from which `models_from_checkpoint` rebuilds everything but the weights."""
        return {
            "observation_dim": self.model.observation_dim,
            "action_dim": self.model.action_dim,
            "statistics": self.statistics.to_dict(),
            "prompt": self.prompt.to_dict(),
            "metadata": self.metadata.to_json(),
            "time_limit": self.time_limit,
        }


def choose_device(setting: str) -> torch.device:
    """The torch device for the `device` setting.

    Raises:
        UserError: the device is not there.
    """
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=setting)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device is {setting!r}, which torch cannot use here; use auto, cpu or cuda") from error
    return torch.device(setting)


def resolve_time_limit(config: RunConfig, metadata: DatasetMetadata) -> int:
    """Steps after which an episode ends: `data.time_limit`, else the environment's.

    Raises:
        UserError: neither is known.
    """
    limit = config.data.time_limit or metadata.max_episode_steps
    if limit <= 0:
        raise UserError(f"{metadata.name}: no time limit known for {metadata.environment_id}; set --data.time_limit")
    return limit


def build_models(config: RunConfig, trajectories: Trajectories) -> Models:
    """New, untrained models for a data set; weights drawn from `config.seed`."""
    time_limit = resolve_time_limit(config, trajectories.metadata)
    scale = config.data.return_scale
    statistics = compute_statistics(trajectories, scale, time_limit, config.data.smallest_state_std)
    prompt = ReturnPrompt.from_trajectories(trajectories, scale, time_limit)
    models = _assemble(
        config,
        trajectories.observation_dim,
        trajectories.action_dim,
        statistics,
        prompt,
        trajectories.metadata,
        time_limit,
    )
    if config.critic.standardise_values:
        values = discounted_returns(trajectories, config.critic.discount)
        values = values[~np.isnan(values)]
        models.critic.value_mean.fill_(float(values.mean()))
        models.critic.value_std.fill_(max(float(values.std()), 1e-3))
    inputs, targets = complete_rows(*transition_rows(trajectories))
    if models.critic.dynamics is not None and len(inputs):
        models.critic.dynamics.standardise(inputs, targets)
    return models


def _assemble(
    config: RunConfig,
    observation_dim: int,
    action_dim: int,
    statistics: Statistics,
    prompt: ReturnPrompt,
    metadata: DatasetMetadata,
    time_limit: int,
    critic_updates: int = 0,
) -> Models:
    device = choose_device(config.device)
    # A generator state of its own: building models must not depend on, or disturb, what was drawn before.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = TrajectoryModel(observation_dim, action_dim, config.model, statistics).to(device)
        critic = IQLCritic(
            observation_dim, action_dim, config.critic, statistics.states_mean, statistics.states_std
        ).to(device)
    return Models(config, model, critic, critic_updates, statistics, prompt, metadata, time_limit)


def as_trained(config: RunConfig, tensors: dict[str, dict[str, torch.Tensor]]) -> RunConfig:
    """The configuration of a checkpoint's run without `critic.dynamics` where its critic is of before there was any.

    A file that lacks the setting reads as the default, which such weights do not fit.
    """
    if any(name.startswith("dynamics.") for name in tensors["critic"]):
        return config
    return replace(config, critic=replace(config.critic, dynamics=False))


def models_from_checkpoint(
    config: RunConfig, tensors: dict[str, dict[str, torch.Tensor]], state: dict[str, Any]
) -> Models:
    """Models with the weights of a loaded checkpoint."""
    described, config = state["models"], as_trained(config, tensors)
    models = _assemble(
        config,
        described["observation_dim"],
        described["action_dim"],
        Statistics.from_dict(described["statistics"]),
        ReturnPrompt.from_dict(described["prompt"]),
        DatasetMetadata.from_json(described["metadata"]),
        described["time_limit"],
        state["critic_updates"],
    )
    models.model.load_state_dict(tensors["btm"])
    models.critic.load_state_dict(tensors["critic"])
    return models


def load_models(run: RunFolder, checkpoint: int | None = None, device: str | None = None) -> Models:
    """Models of a run's newest complete checkpoint, or of the one at step `checkpoint`, in evaluation mode."""
    config = run.config()
    if device is not None:
        config = replace(config, device=device)
    tensors, state = load_checkpoint(run, checkpoint)
    models = models_from_checkpoint(config, tensors, state)
    models.model.eval()
    models.critic.eval()
    return models
