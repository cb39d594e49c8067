"""Time of an IQL update at batch 256, with its sampling and without.

Ours as `m3pc pretrain` and `m3pc finetune` do it. `plain`: a module for each network, three Adam optimizers, autograd,
float32, transitions stacked out of a deque (plain/critic.py, plain/replay.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch

from m3pc_ray.config import CriticConfig
from m3pc_ray.critic.iql import IQLCritic
from m3pc_ray.critic.trainer import IQLTrainer
from m3pc_ray.model.precision import resolve_precision
from m3pc_ray.training.data import TransitionData

from .measuring import Case
from .plain.critic import PlainIQL
from .replay import fill_deque
from .synthetic import ACTION_DIM, OBSERVATION_DIM, make_trajectories, unit_statistics

UPDATES = 10
"""Of ours in one timed call: they come in such groups."""
STORED = {"1M": 1_000_000, "100k": 100_000}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, default=256, help="transitions an update (default: 256)")


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Rows `update`, and `update with sampling K` for K stored transitions."""
    sizes = {"1M": STORED["1M"]} if arguments.quick else STORED
    for label, steps in sizes.items():
        yield from _cases(label, steps, arguments)


def _cases(label: str, steps: int, arguments: argparse.Namespace) -> Iterator[Case]:
    batch, device = arguments.batch, arguments.device
    dtype = resolve_precision("auto", device)
    statistics, rng = unit_statistics(), np.random.default_rng(0)
    trajectories = make_trajectories(steps)
    torch.manual_seed(0)
    critic = IQLCritic(OBSERVATION_DIM, ACTION_DIM, CriticConfig(), statistics.states_mean, statistics.states_std)
    trainer = IQLTrainer(critic.to(device), CriticConfig(batch_size=batch), dtype)
    bounds = np.full(ACTION_DIM, 1.0, dtype=np.float32)
    data = TransitionData(trajectories, -bounds, bounds, device)
    plain = PlainIQL(OBSERVATION_DIM, ACTION_DIM, device=device)
    stored = fill_deque(trajectories, steps)
    fixed, plain_fixed = data.sample(rng, batch), stored.sample(batch)

    def updates(sample: bool) -> None:
        for _ in range(UPDATES):
            trainer.update(data.sample(rng, batch) if sample else fixed)

    def plain_update(sample: bool) -> None:
        drawn = stored.sample(batch) if sample else plain_fixed
        plain.update({name: values.to(device) for name, values in drawn.items()})

    if label == "1M":
        yield Case("update", lambda: updates(False), lambda: plain_update(False), dtype, device, UPDATES)
    name = f"update with sampling {label}"
    yield Case(name, lambda: updates(True), lambda: plain_update(True), dtype, device, UPDATES)
