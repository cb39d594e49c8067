"""Time of a gradient step of the trajectory model, sampling included.

Ours as `m3pc pretrain` does it: mask groups, Muon, segments gathered by index, bfloat16 products where they are faster.
`plain`: torch's transformer layers in float32, one random mask a batch, AdamW, segments cut out of a list of episodes
one by one (plain/model.py, plain/replay.py). The two optimizers and mask mixes differ on purpose: it is the step that
is timed, with what each does to learn.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch

from m3pc_ray.config import MaskConfig, ModelConfig, PretrainConfig
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.model.precision import resolve_precision
from m3pc_ray.training.btm_trainer import BTMTrainer
from m3pc_ray.training.data import SegmentData
from m3pc_ray.trajectories.episodes import Trajectories

from .measuring import Case
from .plain.model import PlainModel, PlainTrainer
from .plain.replay import EpisodeList
from .synthetic import ACTION_DIM, OBSERVATION_DIM, TIME_LIMIT, make_trajectories, unit_statistics

SIZES = ((128, 256), (128, 512), (256, 512), (512, 512))
"""(width, batch)"""
QUICK = ((128, 512),)
STORED_STEPS = 100_000
SEGMENT_LENGTH, PAPER_DROPOUT = 8, 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--width", type=int, help="one case instead of the table: the model's width")
    parser.add_argument("--batch", type=int, default=512, help="its batch size (default: 512)")
    parser.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="of our products (default: auto)"
    )


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Rows `width W batch B`."""
    if arguments.width is not None:
        sizes: tuple[tuple[int, int], ...] = ((arguments.width, arguments.batch),)
    else:
        sizes = QUICK if arguments.quick else SIZES
    trajectories = make_trajectories(STORED_STEPS)
    for width, batch in sizes:
        yield _case(width, batch, trajectories, arguments)


def _case(width: int, batch: int, trajectories: Trajectories, arguments: argparse.Namespace) -> Case:
    dtype = resolve_precision(arguments.precision, arguments.device)
    statistics, rng = unit_statistics(), np.random.default_rng(0)
    torch.manual_seed(0)
    model = TrajectoryModel(OBSERVATION_DIM, ACTION_DIM, ModelConfig(width=width), statistics).to(arguments.device)
    trainer = BTMTrainer(model, PretrainConfig(batch_size=batch), MaskConfig(), dtype, seed=0)
    bounds = np.full(ACTION_DIM, 1.0, dtype=np.float32)
    data = SegmentData(
        trajectories, statistics, "average", TIME_LIMIT, SEGMENT_LENGTH, -bounds, bounds, arguments.device
    )
    plain = PlainTrainer(PlainModel(OBSERVATION_DIM, ACTION_DIM, ModelConfig(width=width, dropout=PAPER_DROPOUT)))
    plain.model.to(arguments.device)
    episodes = plain_episodes(trajectories)

    def step() -> None:
        tokens, valid = data.sample(rng, batch)
        trainer.update(tokens, valid, 1.0)

    def plain_step() -> None:
        tokens = episodes.sample(batch)
        plain.update({name: values.to(arguments.device) for name, values in tokens.items()})

    return Case(f"width {width} batch {batch}", step, plain_step, dtype, arguments.device, batch, batch)


def plain_episodes(trajectories: Trajectories) -> EpisodeList:
    """The same steps as a list of episodes; the returns are of no consequence here."""
    arrays = {
        "states": trajectories.observations,
        "returns": trajectories.rewards[:, None],
        "actions": trajectories.actions,
        "rewards": trajectories.rewards[:, None],
    }
    starts = trajectories.episode_starts
    episodes = [
        {name: values[first:last] for name, values in arrays.items()}
        for first, last in zip(starts[:-1], starts[1:], strict=True)
    ]
    means = {name: np.zeros(arrays[name].shape[1], dtype=np.float32) for name in ("states", "returns", "rewards")}
    stds = {name: np.ones_like(mean) for name, mean in means.items()}
    return EpisodeList(episodes, means, stds, SEGMENT_LENGTH)
