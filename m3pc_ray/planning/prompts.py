"""The return a planner asks the model for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.returns import best_return, best_return_to_go, from_sum

Scale = Literal["average", "sum"]


@dataclass(frozen=True)
class ReturnPrompt:
    """What the data holds that a planner may ask for.

    Args:
        best_at_step: (time_limit,) float32, best return-to-go seen at each step of an episode, in token units.
        best_return: best return of an episode, plain sum.
        scale: unit of the returns tokens.
        time_limit: steps after which an episode is cut off.
    """

    best_at_step: NDArray[np.float32]
    best_return: float
    scale: Scale
    time_limit: int

    @classmethod
    def from_trajectories(cls, trajectories: Trajectories, scale: Scale, time_limit: int) -> ReturnPrompt:
        return cls(
            best_at_step=best_return_to_go(trajectories, scale, time_limit),
            best_return=best_return(trajectories),
            scale=scale,
            time_limit=time_limit,
        )

    def values(
        self,
        timesteps: NDArray[np.int64],
        positions: NDArray[np.int64],
        segment_length: int,
        kind: Literal["best_at_step", "best"],
        ratio: float,
    ) -> NDArray[np.float32]:
        """Returns tokens (B, T) of windows whose step `positions` (B,) is step `timesteps` (B,) of the episode.

        `best_at_step`: each step of the window asks for the best return-to-go seen at that step of an episode.
        `best`: each asks for what the first step of the best episode had: its return, or, in the average scale, its
        reward per step of the time limit. `ratio` multiplies the sums asked for. In token units, not normalised.
        """
        if kind == "best":
            first = from_sum(np.array([self.best_return], dtype=np.float32), np.zeros(1), self.scale, self.time_limit)
            tokens = np.broadcast_to(first.astype(np.float32), (len(timesteps), segment_length))
        else:
            steps = (timesteps - positions)[:, None] + np.arange(segment_length)
            tokens = self.best_at_step[np.clip(steps, 0, self.time_limit - 1)]
        return (tokens * ratio).astype(np.float32)  # both scales are linear in the sum

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "best_at_step": [float(value) for value in self.best_at_step],
            "best_return": float(self.best_return),
            "scale": self.scale,
            "time_limit": int(self.time_limit),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ReturnPrompt:
        """Inverse of `to_dict`."""
        return cls(
            best_at_step=np.asarray(values["best_at_step"], dtype=np.float32),
            best_return=float(values["best_return"]),
            scale=values["scale"],
            time_limit=int(values["time_limit"]),
        )
