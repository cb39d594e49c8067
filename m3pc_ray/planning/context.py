"""What a decision is made from: the last steps of every environment, and the key of its randomness.

A window of T steps starts with what is known. While an episode is younger than the context, it starts at the episode's
first step; later the oldest step falls out (context_length 3, T 8):

    timestep 1:   s0 a0 s1 | a1 s2 ...        position 1, seven steps to plan
    timestep 7:   s4 a4 s5 a5 s6 a6 s7 | a7   position 3, five steps to plan
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3pc_ray.errors import UserError


@dataclass
class PlanningContext:
    """The planner's whole input; one row for each environment.

    Args:
        observations: (B, context_length + 1, observation_dim) float32, raw units, left-aligned: rows 0..position are
            the past observations and the current one; the rest is zero.
        actions: (B, context_length, action_dim) float32 in (-1, 1): rows 0..position-1 are the past actions.
        timesteps: (B,) int64, step of the current observation in its episode; 0 after a reset.
        keys: (B, 3) uint64: run seed, stream (one for each environment and episode), step. They alone decide the
            randomness of the row's decision.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    timesteps: NDArray[np.int64]
    keys: NDArray[np.uint64]

    @property
    def context_length(self) -> int:
        return self.actions.shape[1]

    @property
    def positions(self) -> NDArray[np.int64]:
        """(B,), index t of the current step in the window."""
        return np.minimum(self.timesteps, self.context_length)

    def __len__(self) -> int:
        return len(self.timesteps)

    def same_positions(self) -> list[NDArray[np.int64]]:
        """Rows by position: an environment early in its episode stands further left in its window."""
        positions = self.positions
        return [np.flatnonzero(positions == position) for position in np.unique(positions)]

    def select(self, rows: ArrayLike) -> PlanningContext:
        """The context of some environments, in the order of `rows`."""
        at = np.asarray(rows)
        return PlanningContext(self.observations[at], self.actions[at], self.timesteps[at], self.keys[at])

    def check(self, observation_dim: int, action_dim: int) -> None:
        """Raises UserError where a shape is wrong or a value is not finite, naming the environment."""
        batch, length = len(self.timesteps), self.context_length
        expected = {
            "observations": (batch, length + 1, observation_dim),
            "actions": (batch, length, action_dim),
            "keys": (batch, 3),
        }
        for name, shape in expected.items():
            found = getattr(self, name).shape
            if found != shape:
                raise UserError(f"planning context: {name} has shape {found}; it must be {shape}")
        for name in ("observations", "actions"):
            finite = np.isfinite(getattr(self, name)).reshape(batch, -1).all(axis=1)
            if not finite.all():
                raise UserError(f"planning context: {name} of environment {int(np.argmin(finite))} are not finite")


class ContextWindow:
    """Keeps the planning context of several environments while they are stepped."""

    def __init__(self, num_environments: int, observation_dim: int, action_dim: int, context_length: int) -> None:
        self.context_length = context_length
        self._observations = np.zeros((num_environments, context_length + 1, observation_dim), dtype=np.float32)
        self._actions = np.zeros((num_environments, context_length, action_dim), dtype=np.float32)
        self._timesteps = np.zeros(num_environments, dtype=np.int64)

    @property
    def timesteps(self) -> NDArray[np.int64]:
        """(num_environments,), a copy."""
        return self._timesteps.copy()

    def reset(self, row: int, observation: ArrayLike) -> None:
        """Starts an episode of environment `row` at its first observation (observation_dim,)."""
        self._observations[row] = 0.0
        self._actions[row] = 0.0
        self._observations[row, 0] = observation
        self._timesteps[row] = 0

    def append(self, row: int, action: ArrayLike, next_observation: ArrayLike) -> None:
        """Adds one step: the action taken (action_dim,), in (-1, 1), and what was observed after it."""
        position = min(int(self._timesteps[row]), self.context_length)
        if position == self.context_length and position > 0:
            self._observations[row, :-1] = self._observations[row, 1:].copy()
            self._actions[row, :-1] = self._actions[row, 1:].copy()
            position -= 1
        if self.context_length > 0:
            self._actions[row, position] = action
            position += 1
        self._observations[row, position] = next_observation
        self._timesteps[row] += 1

    def context(self, keys: ArrayLike, rows: ArrayLike | None = None) -> PlanningContext:
        """A copy of what the planner needs, with the (B, 3) keys of the decisions; of all environments or of `rows`."""
        at = slice(None) if rows is None else np.asarray(rows)
        return PlanningContext(
            observations=self._observations[at].copy(),
            actions=self._actions[at].copy(),
            timesteps=self._timesteps[at].copy(),
            keys=np.array(keys, dtype=np.uint64),
        )
