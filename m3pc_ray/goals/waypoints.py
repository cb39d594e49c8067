"""Waypoints: states to be reached one after another, whole or in part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3pc_ray.errors import UserError

MovingGoal = Callable[[int, NDArray[np.float32]], ArrayLike]
"""A goal that drifts: called before every decision, and at the last state of a measured episode, with the episode's
step and the observation (observation_dim,) there; returns all waypoint states (K, observation_dim) as they are wanted
then, NaN where free."""


Correction = Callable[[int, NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""Called before every decision with the episode's step less all delays, the observation (observation_dim,) there and
the waypoint states (K, observation_dim) as they are wanted; returns the states that planners are given."""


@dataclass(frozen=True)
class Waypoints:
    """What is to be reached, and when.

    Args:
        steps: (K,) int64, steps of the episode (0: the first observation) by which each is to be reached, rising, from
            1 on.
        states: (K, observation_dim) float32, raw units; NaN in dimensions that are free.
        source: where they come from, for messages and results: a file, a function, or a task with its settings.
        moving: makes the states anew at every decision; None: they stay as they are.
        placed: `moving` is asked at an episode's first observation only, and the states stay as they are from there on.
        corrected: changes what planners are given, and not what is measured; None: they are given the states.

    Raises:
        UserError: shapes that do not fit, steps that do not rise, a row that fixes nothing, or an infinite value.
    """

    steps: NDArray[np.int64]
    states: NDArray[np.float32]
    source: str
    moving: MovingGoal | None = None
    placed: bool = False
    corrected: Correction | None = None

    def __post_init__(self) -> None:
        steps, states = np.asarray(self.steps), np.asarray(self.states, dtype=np.float32)
        if not np.issubdtype(steps.dtype, np.integer):
            raise UserError(f"{self.source}: steps of waypoints must be whole numbers, not {steps.dtype}")
        object.__setattr__(self, "steps", steps.astype(np.int64))
        object.__setattr__(self, "states", states)
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
                f"{self.source}: waypoint {row + 1} is at step {steps[row]}, not after the one before "
                f"({steps[row - 1]})"
            )
        check_states(states, self.source)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def observation_dim(self) -> int:
        return self.states.shape[1]

    def now(self, step: int, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """(K, observation_dim): where the waypoints are at a step of an episode that shows `observation`.

        Raises UserError, naming the function, where waypoints that drift come out wrong.
        """
        if self.moving is None:
            return self.states
        name = getattr(self.moving, "__qualname__", type(self.moving).__qualname__)
        source = f"{self.source}: moving goal {name} at step {step}"
        try:
            # Copies on both sides: the function may change what it was given, and reuse what it returned.
            states = np.array(self.moving(step, observation.copy()), dtype=np.float32)
        except Exception as error:
            raise UserError(f"{source} failed ({describe(error)})") from error
        if states.shape != self.states.shape:
            raise UserError(f"{source} returned shape {states.shape}; {self.states.shape} is needed")
        check_states(states, source)
        return states

    @property
    def fixed(self) -> NDArray[np.bool_]:
        """(observation_dim,): dimensions that at least one waypoint fixes."""
        return np.asarray(~np.isnan(self.states).all(axis=0))


def check_states(states: NDArray[np.float32], source: str) -> None:
    """Raises UserError for a waypoint (messages count them from 1) that fixes no dimension, or an infinite value."""
    if np.isinf(states).any():
        row, column = np.argwhere(np.isinf(states))[0]
        raise UserError(f"{source}: waypoint {row + 1} is infinite in dimension {column}")
    empty = np.isnan(states).all(axis=1)
    if empty.any():
        raise UserError(f"{source}: waypoint {int(np.argmax(empty)) + 1} fixes no dimension")


def describe(error: BaseException) -> str:
    """An exception in one line: `ValueError: text`, and of a UserError its text only."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
