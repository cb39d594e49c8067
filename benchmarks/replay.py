"""Time of drawing a batch from the online replay: 512 segments of 8 steps, 256 transitions, out of 10k and 1M steps.

Ours is the learner's `ReplayStorage`. `plain`: a deque of transitions and a list of episodes, batches stacked element
by element (plain/replay.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial

import numpy as np

from m3pc_ray.online.replay.fragments import EpisodeKey, Fragment
from m3pc_ray.online.replay.replay_rows import RowFormat, fill_rows
from m3pc_ray.online.replay.replay_storage import ReplayStorage
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories

from .measuring import Case
from .plain.replay import TransitionDeque
from .pretrain import SEGMENT_LENGTH, plain_episodes
from .synthetic import ACTION_DIM, TIME_LIMIT, make_trajectories, unit_statistics

SEGMENTS, TRANSITIONS = 512, 256
CALLS = 20
"""Of ours in one timed call: one alone is too short to time."""
STORED = {"10k": 10_000, "1M": 1_000_000}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # nothing of its own


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Rows `segments K` and `transitions K` for K stored steps."""
    for label, steps in STORED.items():
        trajectories = make_trajectories(steps)
        storage, rng = fill_storage(trajectories, arguments.device), np.random.default_rng(0)
        episodes, transitions = plain_episodes(trajectories), fill_deque(trajectories, steps)
        yield Case(
            f"segments {label}",
            partial(_sample_segments, storage, rng),
            partial(episodes.sample, SEGMENTS),
            device=arguments.device,
            ours_units=CALLS,
        )
        yield Case(
            f"transitions {label}",
            partial(storage.sample_transitions, rng, CALLS, TRANSITIONS),
            partial(transitions.sample, TRANSITIONS),
            device=arguments.device,
            ours_units=CALLS,
        )


def _sample_segments(storage: ReplayStorage, rng: np.random.Generator) -> None:
    for _ in range(CALLS):
        storage.sample_segments(rng, SEGMENTS)


def fill_storage(trajectories: Trajectories, device: str) -> ReplayStorage:
    """A replay of one offline episode and all others as fragments that arrived online."""
    bounds = np.full(ACTION_DIM, 1.0, dtype=np.float32)
    offline = trajectories.select(np.array([0]))
    row_format = RowFormat("average", TIME_LIMIT, SEGMENT_LENGTH, -bounds, bounds)
    storage = ReplayStorage(
        fill_rows(offline, row_format, trajectories.num_steps - offline.num_steps, device),
        row_format,
        unit_statistics(),
        offline_fraction=0.5,
        balanced_after=trajectories.num_steps,  # all transitions alike, so that both sizes read the same share of rows
    )
    starts = trajectories.episode_starts
    for episode in range(1, trajectories.num_episodes):
        rows = slice(starts[episode], starts[episode + 1])
        storage.append(
            Fragment(
                key=EpisodeKey(0, 0, episode),
                offset=0,
                observations=trajectories.observations[rows],
                actions=trajectories.actions[rows],
                rewards=trajectories.rewards[rows],
                final_observation=trajectories.final_observations[episode],
                end=EpisodeEnd.TERMINATED,
                reset_seed=0,
                weight_versions=(0, 0),
                planner="{}",
            )
        )
    return storage


def fill_deque(trajectories: Trajectories, capacity: int) -> TransitionDeque:
    """A deque of every transition."""
    stored = TransitionDeque(capacity)
    terminated = trajectories.terminated().astype(np.float32)
    following = trajectories.next_observations()
    for row in range(trajectories.num_steps):
        stored.append(
            (
                trajectories.observations[row],
                trajectories.actions[row],
                trajectories.rewards[row],
                following[row],
                terminated[row],
            )
        )
    return stored
