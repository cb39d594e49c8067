"""The memory of a replay: the rows of the offline episodes, which stay, and room for a ring of online ones behind them.

The offline rows depend on the data set and a few settings alone, so runs on one machine may share them, see
`online.shared_rows`; what stands here fills memory of the process's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3pc_ray.training.columns import Columns
from m3pc_ray.training.data import transition_arrays
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.returns import returns_to_go
from m3pc_ray.trajectories.segments import SegmentIndex


@dataclass(frozen=True)
class RowFormat:
    """What steps are turned into rows with, and rows cut into segments."""

    scale: str
    time_limit: int
    """With `scale`: what a returns-to-go token holds, see `trajectories.returns`."""
    segment_length: int
    """T"""
    action_low: NDArray[np.float32]
    action_high: NDArray[np.float32]
    """(action_dim,) bounds of the environment: what data sets and fragments hold; rows hold actions within (-1, 1)."""


@dataclass(frozen=True)
class ReplayRows:
    """M offline rows and room for `capacity` online ones, whose contents are undefined until they are written."""

    steps: Columns
    """M + capacity rows of observations, actions, rewards, returns: what segments are made of, one gather."""
    outcomes: Columns
    """M + capacity rows of next_observations, terminated: what else transitions need."""
    returns_known: Tensor
    """(M + capacity,) bool: whether the return of a row's step is known."""
    transitions: NDArray[np.int64]
    """Offline rows that the critic may learn from."""
    segments: SegmentIndex
    """Where segments of the offline rows start."""
    offline_steps: int
    """M"""

    @property
    def capacity(self) -> int:
        return len(self.steps) - self.offline_steps


def step_widths(observation_dim: int, action_dim: int) -> dict[str, int]:
    """Columns of `ReplayRows.steps`."""
    return {"observations": observation_dim, "actions": action_dim, "rewards": 0, "returns": 0}


def outcome_widths(observation_dim: int) -> dict[str, int]:
    """Columns of `ReplayRows.outcomes`."""
    return {"next_observations": observation_dim, "terminated": 0}


def best_episodes(trajectories: Trajectories, count: int) -> Trajectories:
    """The `count` episodes of the highest return, in their old order; all where there are no more."""
    if trajectories.num_episodes <= count:
        return trajectories
    return trajectories.select(np.sort(trajectories.best_first()[:count]))


def fill_rows(
    offline: Trajectories, row_format: RowFormat, capacity: int, device: torch.device | str = "cpu"
) -> ReplayRows:
    """Rows of the episodes `offline`, see `best_episodes`, in new memory of `device`.

    Raises ValueError where actions or rewards are missing: rows have no word for that.
    """
    if offline.actions_known is not None or offline.rewards_known is not None:
        raise ValueError(f"{offline.metadata.name}: rows need every action and reward")
    count = offline.num_steps
    values, known = returns_to_go(offline, row_format.scale, row_format.time_limit)
    arrays, usable = transition_arrays(offline, row_format.action_low, row_format.action_high)
    arrays["returns"] = np.where(known, values, 0.0).astype(np.float32)
    rows = count + capacity
    steps = Columns(step_widths(offline.observation_dim, offline.action_dim), rows, device)
    outcomes = Columns(outcome_widths(offline.observation_dim), rows, device)
    for columns in (steps, outcomes):
        for name in columns.widths:
            columns[name][:count] = torch.as_tensor(arrays[name], device=device)
    returns_known = torch.zeros(rows, dtype=torch.bool, device=device)
    returns_known[:count] = torch.as_tensor(known, device=device)
    segments = SegmentIndex.of(offline, row_format.segment_length)
    return ReplayRows(steps, outcomes, returns_known, np.flatnonzero(usable), segments, count)
