"""Time of a gradient step of the trajectory model, sampling included.

Ours as `m3pc pretrain` does it: mask groups, Muon, segments gathered by index, bfloat16 products where they are faster.
`plain`: torch's transformer layers in float32, one mask a batch, AdamW, segments cut out of a list of episodes one by
one (plain/model.py, plain/replay.py).

A step costs what its masks show, so both get the same: masks A and B are drawn, ours takes two steps with half of a
batch under each, plain one step under A and one under B. They are random masks as the authors train; a last row has the
mix of the preset, test-time masks among them.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator

import numpy as np
import torch

from m3pc_ray.config import MaskConfig, ModelConfig, PretrainConfig
from m3pc_ray.model.masks import draw_masks
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
MASKS_A_ROUND = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--width", type=int, help="one case instead of the table: the model's width")
    parser.add_argument("--batch", type=int, default=512, help="its batch size (default: 512)")
    parser.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="of our products (default: auto)"
    )


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Rows `width W batch B`, and one with the preset's masks."""
    if arguments.width is not None:
        sizes: tuple[tuple[int, int], ...] = ((arguments.width, arguments.batch),)
    else:
        sizes = QUICK if arguments.quick else SIZES
    trajectories = make_trajectories(STORED_STEPS)
    random_masks = MaskConfig(groups=MASKS_A_ROUND, test_mask_fraction=0.0)
    for width, batch in sizes:
        yield _case(f"width {width} batch {batch}", width, batch, random_masks, trajectories, arguments)
    width, batch = sizes[0] if arguments.width is not None else QUICK[0]
    preset = MaskConfig(groups=MASKS_A_ROUND)
    yield _case(f"width {width} batch {batch} preset's masks", width, batch, preset, trajectories, arguments)


def _case(
    name: str, width: int, batch: int, masks: MaskConfig, trajectories: Trajectories, arguments: argparse.Namespace
) -> Case:
    dtype = resolve_precision(arguments.precision, arguments.device)
    statistics, rng = unit_statistics(), np.random.default_rng(0)
    torch.manual_seed(0)
    model = TrajectoryModel(OBSERVATION_DIM, ACTION_DIM, ModelConfig(width=width), statistics).to(arguments.device)
    trainer = BTMTrainer(model, PretrainConfig(batch_size=batch), masks, dtype, seed=0)
    bounds = np.full(ACTION_DIM, 1.0, dtype=np.float32)
    data = SegmentData(
        trajectories, statistics, "average", TIME_LIMIT, SEGMENT_LENGTH, -bounds, bounds, arguments.device
    )
    plain_model = PlainModel(OBSERVATION_DIM, ACTION_DIM, ModelConfig(width=width, dropout=PAPER_DROPOUT))
    plain = PlainTrainer(plain_model, masks)
    plain.model.to(arguments.device)
    episodes = plain_episodes(trajectories)

    rounds = {"ours": itertools.count(), "plain": itertools.count()}

    def steps() -> None:
        number = next(rounds["ours"])
        for _ in range(MASKS_A_ROUND):
            trainer.mask_rng = np.random.default_rng(number)  # the same masks in every step of a round
            tokens, valid = data.sample(rng, batch)
            trainer.update(tokens, valid, 1.0)

    def plain_steps() -> None:
        drawn = draw_masks(np.random.default_rng(next(rounds["plain"])), SEGMENT_LENGTH, masks)
        for mask in drawn:
            tokens = episodes.sample(batch)
            plain.update({name: values.to(arguments.device) for name, values in tokens.items()}, mask)

    sequences = MASKS_A_ROUND * batch
    return Case(name, steps, plain_steps, dtype, arguments.device, sequences, sequences)


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
