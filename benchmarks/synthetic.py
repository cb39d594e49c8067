"""Random experience of Hopper's sizes, for benchmarks that only measure time."""

from __future__ import annotations

import numpy as np

from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories
from m3pc_ray.trajectories.statistics import Statistics

OBSERVATION_DIM, ACTION_DIM, TIME_LIMIT = 11, 3, 1000  # Hopper


def make_trajectories(steps: int, episode_length: int = 500, seed: int = 0) -> Trajectories:
    """`steps` random steps in episodes of `episode_length`, every one of them terminated."""
    rng = np.random.default_rng(seed)
    starts = np.arange(0, steps + 1, episode_length)
    if starts[-1] < steps:
        starts = np.append(starts, steps)
    episodes = len(starts) - 1
    return Trajectories(
        observations=rng.standard_normal((steps, OBSERVATION_DIM), dtype=np.float32),
        actions=rng.uniform(-0.99, 0.99, size=(steps, ACTION_DIM)).astype(np.float32),
        rewards=rng.standard_normal(steps, dtype=np.float32),
        episode_starts=starts.astype(np.int64),
        episode_ends=np.full(episodes, EpisodeEnd.TERMINATED, dtype=np.int8),
        final_observations=rng.standard_normal((episodes, OBSERVATION_DIM), dtype=np.float32),
        metadata=DatasetMetadata(
            name="synthetic",
            environment_id="Hopper-v4",
            observation_low=(-np.inf,) * OBSERVATION_DIM,
            observation_high=(np.inf,) * OBSERVATION_DIM,
            action_low=(-1.0,) * ACTION_DIM,
            action_high=(1.0,) * ACTION_DIM,
            max_episode_steps=TIME_LIMIT,
        ),
    )


def unit_statistics() -> Statistics:
    """Means 0 and standard deviations 1."""
    zero, one = np.zeros(1, dtype=np.float32), np.ones(1, dtype=np.float32)
    zeros, ones = np.zeros(OBSERVATION_DIM, dtype=np.float32), np.ones(OBSERVATION_DIM, dtype=np.float32)
    return Statistics(zeros, ones, zero, one, zero, one)
