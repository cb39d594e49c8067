"""The goals that one decision sees, beside the context it is made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3pc_ray.errors import UserError
from m3pc_ray.planning.context import PlanningContext


@dataclass(frozen=True)
class GoalWindow:
    """Goals inside the windows of B environments.

    Args:
        states: (B, G, observation_dim) float32, raw units, NaN in dimensions that are free.
        slots: (B, G) int64, the step of the window at which each is to be reached, after the current one; -1 where an
            environment has fewer than G goals.
    """

    states: NDArray[np.float32]
    slots: NDArray[np.int64]

    def select(self, rows: ArrayLike) -> GoalWindow:
        """The goals of some environments, in the order of `rows`."""
        at = np.asarray(rows)
        return GoalWindow(self.states[at], self.slots[at])

    def check(self, context: PlanningContext, observation_dim: int, segment_length: int) -> None:
        """Raises UserError where shapes do not fit, or a slot lies outside of what is to come in its window."""
        batch, count = len(context), self.slots.shape[-1]
        if self.slots.shape != (batch, count) or self.states.shape != (batch, count, observation_dim):
            raise UserError(
                f"goals: states {self.states.shape} and slots {self.slots.shape} do not fit {batch} environments with "
                f"{observation_dim} observed dimensions"
            )
        used = self.slots >= 0
        wrong = used & ((self.slots <= context.positions[:, None]) | (self.slots >= segment_length))
        if wrong.any():
            row, goal = np.argwhere(wrong)[0]
            now = int(context.positions[row])
            raise UserError(
                f"goals: environment {row} has goal {goal} at window step {self.slots[row, goal]}; from its step {now} "
                f"on, 1 to {segment_length - 1 - now} steps ahead can be seen"
            )
        values = self.states[used]
        if np.isinf(values).any() or np.isnan(values).all(axis=-1).any():
            raise UserError("goals: a goal is infinite in some dimension, or fixes none")
        for row, slots in enumerate(self.slots):
            mine = slots[slots >= 0]
            if len(np.unique(mine)) < len(mine):
                raise UserError(f"goals: environment {row} has two goals at the same window step")
