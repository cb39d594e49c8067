"""Sequences for the Decision Transformer, drawn from flat arrays as d3rlpy's slicer cuts them."""

from __future__ import annotations

import numpy as np
import torch
from d3rlpy.torch_utility import TorchTrajectoryMiniBatch

from .transitions import DEVICE, Data, FloatArray


class Sequences:
    """Windows of `length` steps that end at any step, uniform over steps; zeros before an episode's first.

    Args:
        data: scaled observations and rewards.
        length: steps of a window.
        rng: draws.
    """

    def __init__(self, data: Data, length: int, rng: np.random.Generator) -> None:
        self.length, self.rng = length, rng
        lengths = np.diff(data.starts)
        self._first = np.repeat(data.starts[:-1], lengths)  # (steps,) row of the episode's first step
        columns: dict[str, FloatArray] = {
            "observations": data.observations,
            "actions": data.actions,
            "rewards": data.rewards[:, None],
            "terminals": data.terminals[:, None],
            "returns_to_go": _sums_ahead(data.rewards, data.starts),
        }
        self._columns = {name: torch.as_tensor(values) for name, values in columns.items()}

    def __len__(self) -> int:
        return len(self._first)

    def batch(self, count: int) -> TorchTrajectoryMiniBatch:
        """Windows that end at random steps."""
        return self.ending_at(self.rng.integers(len(self), size=count))

    def ending_at(self, ends: np.ndarray) -> TorchTrajectoryMiniBatch:
        """The windows whose last steps are the rows `ends` (B,)."""
        rows = ends[:, None] + np.arange(1 - self.length, 1)  # (B, T)
        exists = rows >= self._first[ends][:, None]
        # Time steps count from 1; 0 stands for padding.
        timesteps = np.where(exists, rows - self._first[ends][:, None] + 1, 0)
        at = torch.as_tensor(np.where(exists, rows, 0))
        masks = torch.as_tensor(exists.astype(np.float32))
        taken = {name: values[at] * masks[..., None] for name, values in self._columns.items()}
        return TorchTrajectoryMiniBatch(**taken, timesteps=torch.as_tensor(timesteps), masks=masks, device=DEVICE)


def _sums_ahead(rewards: FloatArray, starts: np.ndarray) -> FloatArray:
    """(steps, 1): what each step and those after it earn in their episode, undiscounted."""
    parts = [
        np.cumsum(rewards[a:b][::-1], dtype=np.float64)[::-1] for a, b in zip(starts[:-1], starts[1:], strict=True)
    ]
    return np.concatenate(parts).astype(np.float32)[:, None]
