"""The data of the assignment, and the replay: flat tensors, rows drawn by index.

d3rlpy's own replay buffer makes an object for every row that it draws; docs/comparison.md has what that costs. The
batches are the same: a test compares them with d3rlpy's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from d3rlpy.torch_utility import TorchMiniBatch
from torch import Tensor

DEVICE = "cpu:0"
FloatArray = npt.NDArray[np.float32]
COLUMNS = ("observations", "actions", "rewards", "next_observations", "next_actions", "terminals", "returns_to_go")


class Data:
    """`transitions.parquet`: every step of every episode, actions in [-1, 1].

    Args:
        path: of the file.
        discount: of returns-to-go that are learnt from.
        reward_scale: rewards are multiplied by it.
        standardise: whether observations are.
    """

    def __init__(self, path: Path, discount: float, reward_scale: float, standardise: bool) -> None:
        table = parquet.read_table(path)
        raw = _matrix(table, "observations")
        self.mean: FloatArray = np.zeros(raw.shape[1], np.float32)
        self.scale: FloatArray = np.ones(raw.shape[1], np.float32)
        if standardise:
            # As d3rlpy's StandardObservationScaler does, its epsilon included.
            self.mean = raw.mean(0, dtype=np.float64).astype(np.float32)
            self.scale = (raw.std(0, dtype=np.float64) + 1e-3).astype(np.float32)
        self.discount, self.reward_scale = discount, reward_scale
        self.observations = self.standardised(raw)
        self.next_observations = self.standardised(_matrix(table, "next_observations"))
        self.actions = _matrix(table, "actions")
        self.rewards = table.column("rewards").to_numpy().astype(np.float32) * np.float32(reward_scale)
        self.terminals = table.column("terminated").to_numpy().astype(np.float32)
        episodes = table.column("episode").to_numpy()
        self.starts = np.concatenate([[0], np.flatnonzero(np.diff(episodes)) + 1, [len(episodes)]]).astype(np.int64)
        self._usable = table.column("usable").to_numpy()

    def standardised(self, observations: npt.ArrayLike) -> FloatArray:
        """Observations (..., observation_dim) as the networks see them."""
        return ((np.asarray(observations, np.float32) - self.mean) / self.scale).astype(np.float32)

    def transitions(self) -> dict[str, FloatArray]:
        """`COLUMNS` of the steps whose successor is known; vectors as (rows, 1)."""
        spans = list(zip(self.starts[:-1], self.starts[1:], strict=True))
        columns = {name: getattr(self, name) for name in ("observations", "actions", "next_observations")}
        columns |= {name: getattr(self, name)[:, None] for name in ("rewards", "terminals")}
        columns["next_actions"] = np.concatenate([following(self.actions[a:b]) for a, b in spans])
        columns["returns_to_go"] = np.concatenate([discounted(self.rewards[a:b], self.discount) for a, b in spans])
        return {name: np.ascontiguousarray(columns[name][self._usable]) for name in COLUMNS}


def following(actions: FloatArray) -> FloatArray:
    """(steps, action_dim) of one episode, one step later; zeros after its last."""
    return np.concatenate([actions[1:], np.zeros_like(actions[:1])])


def discounted(rewards: npt.NDArray[Any], discount: float) -> FloatArray:
    """(steps, 1): what each step and those after it earn in the episode, rewards (steps,)."""
    returns = np.zeros((len(rewards), 1), np.float64)
    ahead = 0.0
    for step in range(len(rewards) - 1, -1, -1):
        ahead = float(rewards[step]) + discount * ahead
        returns[step] = ahead
    return returns.astype(np.float32)


class Replay:
    """Transitions of the data, and room for those that are collected.

    Args:
        offline: `Data.transitions`.
        room: how many may be appended.
        online_share: of every batch, drawn from what was collected as soon as there is any; None: all rows count alike.
        rng: draws.
    """

    def __init__(
        self, offline: Mapping[str, FloatArray], room: int, online_share: float | None, rng: np.random.Generator
    ) -> None:
        self.offline, self.online_share, self.rng = len(offline["rewards"]), online_share, rng
        self.size = self.offline
        self._columns = {
            name: torch.as_tensor(np.concatenate([values, np.zeros((room, values.shape[1]), np.float32)]))
            for name, values in offline.items()
        }

    def append(self, rows: Mapping[str, FloatArray]) -> None:
        """Adds collected transitions, `COLUMNS`."""
        count = len(rows["rewards"])
        for name, values in rows.items():
            self._columns[name][self.size : self.size + count] = torch.as_tensor(values)
        self.size += count

    def collected(self) -> dict[str, Tensor]:
        """What was appended, for a checkpoint."""
        return {name: values[self.offline : self.size].clone() for name, values in self._columns.items()}

    def batch(self, count: int) -> TorchMiniBatch:
        """Rows with replacement, as d3rlpy's networks take them."""
        if self.online_share is None or self.size == self.offline:
            at = self.rng.integers(self.size, size=count)
        else:
            online = round(self.online_share * count)
            fresh = self.rng.integers(self.offline, self.size, size=online)
            at = np.concatenate([self.rng.integers(self.offline, size=count - online), fresh])
        rows = torch.as_tensor(at)
        taken = {name: values.index_select(0, rows) for name, values in self._columns.items()}
        return TorchMiniBatch(**taken, intervals=torch.ones(count, 1), device=DEVICE)


def _matrix(table: pa.Table, name: str) -> FloatArray:
    """(rows, size) of a column of lists, equally long."""
    column = table.column(name).combine_chunks()
    array = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    flat: FloatArray = array.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return flat.reshape(table.num_rows, -1)
