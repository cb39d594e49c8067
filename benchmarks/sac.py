"""Time of SAC's updates at batch 256, sampling included, on Hopper's sizes.

Ours as `m3pc_ray.sac` does them: `SAC update`, Stable-Baselines3's own with fused Adam; `RLPD step`, 20 updates of ten
critics with LayerNorm and one of the actor, half of every batch offline. `plain`: a minimal loop in
torch, a module for each network (plain/sac.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from m3pc_ray.sac.settings import SacSettings
from m3pc_ray.sac.trainer import SacTrainer
from m3pc_ray.training.data import transition_arrays
from m3pc_ray.trajectories.episodes import Trajectories

from .measuring import Case
from .plain.sac import PlainSAC
from .synthetic import ACTION_DIM, make_trajectories

UPDATES = 10
"""Of `SAC update` in one timed call."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stored", type=int, default=100_000, help="steps in the replay buffer (default: 100,000)")


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Rows `SAC update` and `RLPD step`."""
    data = make_trajectories(arguments.stored)
    bound = np.ones(ACTION_DIM, dtype=np.float32)
    arrays, _ = transition_arrays(data, -bound, bound)
    plain = PlainSAC(arrays)

    def plain_updates() -> None:
        for _ in range(UPDATES):
            plain.update_actor(plain.update_critics(), mean_of_critics=False)

    model = _filled(SacSettings(buffer_size=arguments.stored), None, arrays)
    yield Case("SAC update", lambda: model.train(UPDATES, 256), plain_updates, torch.float32, "cpu", UPDATES, UPDATES)

    settings = SacSettings.rlpd(buffer_size=arguments.stored)
    ensemble = PlainSAC(arrays, settings.critics, settings.target_critics, layer_norm=True)

    def plain_step() -> None:
        for _ in range(settings.updates_per_step):
            batch = ensemble.update_critics()
        ensemble.update_actor(batch, mean_of_critics=True)

    rlpd = _filled(settings, data, arrays)
    yield Case("RLPD step", lambda: rlpd.train(settings.updates_per_step, 256), plain_step, torch.float32)


def _filled(settings: SacSettings, offline: Trajectories | None, arrays: dict[str, np.ndarray]) -> Any:
    """A trainer's model whose replay buffer is full."""
    from stable_baselines3.common.logger import Logger

    model = SacTrainer("Hopper-v4", 0, settings, offline).model
    model.set_logger(Logger(None, []))
    buffer = model.replay_buffer
    buffer.dones[:, 0] = arrays["terminated"]
    for name in ("observations", "actions", "rewards", "next_observations"):
        getattr(buffer, name)[:, 0] = arrays[name]
    buffer.full = True
    return model
