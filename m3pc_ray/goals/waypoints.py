"""Waypoints: states to be reached one after another, whole or in part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3pc_ray.errors import UserError

MovingGoal = Callable[[int, NDArray[np.float32]], ArrayLike]
"""A goal that drifts: called before every decision with the episode's step and the current observation
(observation_dim,); returns all waypoint states (K, observation_dim) as they are wanted now, NaN where free."""


@dataclass(frozen=True)
class Waypoints:
    """What is to be reached, and when.

    Args:
        steps: (K,) int64, steps of the episode (0: the first observation) by which each is to be reached, rising, from
            1 on.
        states: (K, observation_dim) float32, raw units; NaN in dimensions that are free.
        source: where they come from, for messages and results: a file, a function, or a task with its settings.
        moving: makes the states anew at every decision; None: they stay as they are.

    Raises:
        UserError: shapes that do not fit, steps that do not rise, a row that fixes nothing, or an infinite value.
    """

    steps: NDArray[np.int64]
    states: NDArray[np.float32]
    source: str
    moving: MovingGoal | None = None

    def __post_init__(self) -> None:
        steps, states = self.steps, self.states
        if states.ndim != 2 or len(states) == 0:
            raise UserError(
                f"{self.source}: waypoints have shape {states.shape}; (waypoints, observation_dim) is needed"
            )
        if steps.shape != (len(states),):
            raise UserError(f"{self.source}: {len(states)} waypoints have steps of shape {steps.shape}; one step each")
        if steps[0] < 1:
            raise UserError(f"{self.source}: the first waypoint is at step {steps[0]}; steps count from 1")
        if (np.diff(steps) <= 0).any():
            row = int(np.argmax(np.diff(steps) <= 0)) + 1
            raise UserError(
                f"{self.source}: waypoint {row} is at step {steps[row]}, not after the one before ({steps[row - 1]})"
            )
        check_states(states, self.source)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def observation_dim(self) -> int:
        return self.states.shape[1]

    @property
    def fixed(self) -> NDArray[np.bool_]:
        """(observation_dim,): dimensions that at least one waypoint fixes."""
        return np.asarray(~np.isnan(self.states).all(axis=0))


def check_states(states: NDArray[np.float32], source: str) -> None:
    """Raises UserError for a waypoint that fixes no dimension, or an infinite value."""
    if np.isinf(states).any():
        row, column = np.argwhere(np.isinf(states))[0]
        raise UserError(f"{source}: waypoint {row} is infinite in dimension {column}")
    empty = np.isnan(states).all(axis=1)
    if empty.any():
        raise UserError(f"{source}: waypoint {int(np.argmax(empty))} fixes no dimension")
