"""Time of an IQL update at batch 256, with its sampling and without.

Ours as `m3pc pretrain` and `m3pc finetune` do it. `plain`: a module for each network, three Adam optimizers, autograd,
float32, transitions stacked out of a deque (plain/critic.py, plain/replay.py). Rows of larger ensembles compare with
the same batched networks under autograd.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch

from m3pc_ray.config import CriticConfig
from m3pc_ray.critic.iql import IQLCritic
from m3pc_ray.critic.trainer import IQLTrainer, losses
from m3pc_ray.model.precision import resolve_precision
from m3pc_ray.training.data import TransitionData

from .measuring import Case
from .plain.critic import PlainIQL
from .replay import fill_deque
from .synthetic import ACTION_DIM, OBSERVATION_DIM, make_trajectories, unit_statistics

UPDATES = 10
"""Of ours in one timed call: they come in such groups."""
STORED = {"1M": 1_000_000, "100k": 100_000}
ENSEMBLES = ((2, True), (5, False), (5, True), (10, True))
"""Qs, and whether they are normed, of the rows `update of K Qs`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, default=256, help="transitions an update (default: 256)")


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Rows `update`, and `update with sampling K` for K stored transitions; `update of K Qs` for larger ensembles."""
    sizes = {"1M": STORED["1M"]} if arguments.quick else STORED
    for label, steps in sizes.items():
        yield from _cases(label, steps, arguments)
    for size, layer_norm in ENSEMBLES[-1:] if arguments.quick else ENSEMBLES:
        yield _ensemble_case(CriticConfig(ensemble_size=size, layer_norm=layer_norm, dynamics=False), arguments)


def _cases(label: str, steps: int, arguments: argparse.Namespace) -> Iterator[Case]:
    batch, device = arguments.batch, arguments.device
    dtype = resolve_precision("auto", device)
    statistics, rng = unit_statistics(), np.random.default_rng(0)
    trajectories = make_trajectories(steps)
    torch.manual_seed(0)
    critic = IQLCritic(
        OBSERVATION_DIM, ACTION_DIM, CriticConfig(dynamics=False), statistics.states_mean, statistics.states_std
    )
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


def _ensemble_case(config: CriticConfig, arguments: argparse.Namespace) -> Case:
    statistics, rng, device = unit_statistics(), np.random.default_rng(0), arguments.device
    dtype = resolve_precision("auto", device)

    def make_critic() -> IQLCritic:
        return IQLCritic(OBSERVATION_DIM, ACTION_DIM, config, statistics.states_mean, statistics.states_std).to(device)

    trainer, plain = IQLTrainer(make_critic(), config, dtype), make_critic()
    bounds = np.full(ACTION_DIM, 1.0, dtype=np.float32)
    batch = TransitionData(make_trajectories(5000), -bounds, bounds, device).sample(rng, arguments.batch)
    learnt: list[torch.Tensor] = list(plain.q.parameters())
    targets: list[torch.Tensor] = list(plain.q_target.parameters())
    optimizer = torch.optim.Adam([*learnt, *plain.v.parameters()], lr=config.learning_rate)

    def plain_update() -> None:
        optimizer.zero_grad()
        sum(losses(plain, config, batch), torch.zeros((), device=device)).backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(targets, learnt, config.polyak)

    def updates() -> None:
        for _ in range(UPDATES):
            trainer.update(batch)

    normed = ", LayerNorm" if config.layer_norm else ""
    return Case(f"update of {config.ensemble_size} Qs{normed}", updates, plain_update, dtype, device, UPDATES)
