"""The goals that one decision sees, beside the context it is made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class GoalWindow:
    """Goals inside the windows of B environments, at most G each.

    Args:
        states: (B, G, observation_dim) float32, raw units, NaN in dimensions that are free, and where there is no goal.
        slots: (B, G) int64, the step of the window at which each is to be reached, after the current one; -1 where an
            environment has fewer than G goals.
    """

    states: NDArray[np.float32]
    slots: NDArray[np.int64]

    def select(self, rows: ArrayLike) -> GoalWindow:
        """The goals of some environments, in the order of `rows`."""
        at = np.asarray(rows)
        return GoalWindow(self.states[at], self.slots[at])
