"""What an agent remembers of the episodes it acts in: the last steps of every row, which the model needs to see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from m3pc_ray.environments.actions import FloatArray
from m3pc_ray.errors import UserError
from m3pc_ray.planning.context import ContextWindow, PlanningContext


@dataclass(frozen=True)
class Noticed:
    """One call's observations, checked and remembered."""

    observations: FloatArray
    """(rows, observation_dim)"""
    starts: npt.NDArray[np.bool_]
    """(rows,): the observation is the first of an episode."""
    rows: npt.NDArray[np.int64]
    """(rows,): rows of the first call's batch that they belong to."""


class EpisodeMemory:
    """Rows of environments, the window of each, and the names of their random streams.

    Args:
        observation_dim, action_dim: lengths of an observation and an action.
        context_length: past steps that a planner sees.
        environment_id: for messages.
        seed: of the randomness of decisions; part of their keys.
    """

    def __init__(
        self, observation_dim: int, action_dim: int, context_length: int, environment_id: str, seed: int
    ) -> None:
        self.observation_dim, self.action_dim, self.context_length = observation_dim, action_dim, context_length
        self.environment_id, self.seed = environment_id, seed
        self.forget()

    def forget(self) -> None:
        """Forget every episode; the next call says how many rows there are."""
        self._window: ContextWindow | None = None
        self._actions: FloatArray = np.empty((0, self.action_dim), dtype=np.float32)
        self._streams = np.empty(0, dtype=np.uint64)
        self._started = np.empty(0, dtype=np.bool_)
        self._next_stream = 0

    def __len__(self) -> int:
        return len(self._started)

    def as_batch(self, observation: npt.ArrayLike) -> tuple[FloatArray, bool]:
        """(rows, observation_dim) float32, and whether it was a single (observation_dim,).

        Raises UserError for any other shape.
        """
        single = np.ndim(observation) == 1
        batch = np.asarray(observation, dtype=np.float32)
        if batch.ndim not in (1, 2) or batch.shape[-1] != self.observation_dim:
            raise UserError(self._shape_message(batch.shape))
        return batch[np.newaxis] if single else batch, single

    def notice(
        self,
        observations: npt.ArrayLike,
        episode_start: bool | npt.ArrayLike | None,
        rows: Sequence[int] | npt.NDArray[np.int64] | None,
        streams: npt.ArrayLike | None,
    ) -> Noticed:
        """Remembers what the rows' environments show now, after the actions given to `decided` before.

        Args: as of `Agent.plan`. Raises UserError for a wrong shape, a value that is not finite, a changed number of
        rows, or a row that never started.
        """
        values = self._check_observations(observations)
        window = self._create_rows(len(values)) if self._window is None else self._window
        indices = self._indices(rows)
        if len(indices) != len(values):
            message = f"{len(values)} observations for {len(indices)} environments; call reset() to change the number"
            raise UserError(message)
        starts = self._check_starts(episode_start, indices)
        names = None if streams is None else np.broadcast_to(np.asarray(streams, dtype=np.uint64), indices.shape)
        for i, row in enumerate(indices):
            if starts[i]:
                window.reset(row, values[i])
                self._streams[row] = self._next_stream if names is None else names[i]
                self._next_stream += 1
                self._started[row] = True
            else:
                window.append(row, self._actions[row], values[i])
        return Noticed(values, starts, indices)

    def decided(self, rows: npt.NDArray[np.int64], actions: FloatArray, rest: FloatArray | None = None) -> None:
        """Remembers the actions (rows, action_dim), in (-1, 1), that are taken now, and `Plan.rest` of their plans."""
        self._actions[rows] = actions
        if rest is not None and self._window is not None:
            self._window.remember(rows, rest)

    def context(self, rows: Sequence[int] | npt.NDArray[np.int64] | None = None) -> PlanningContext:
        """What a planner is given for the current step of `rows` (default: all): a copy."""
        if self._window is None:
            raise UserError("the agent has seen no observation yet; call predict first")
        indices = self._indices(rows)
        seeds = np.full(len(indices), self.seed, dtype=np.uint64)
        steps = self._window.timesteps[indices].astype(np.uint64)
        return self._window.context(np.stack([seeds, self._streams[indices], steps], axis=1), indices)

    def _indices(self, rows: Sequence[int] | npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
        return np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)

    def _create_rows(self, count: int) -> ContextWindow:
        window = ContextWindow(count, self.observation_dim, self.action_dim, self.context_length)
        self._window = window
        self._actions = np.zeros((count, self.action_dim), dtype=np.float32)
        self._streams = np.zeros(count, dtype=np.uint64)
        self._started = np.zeros(count, dtype=np.bool_)
        return window

    def _check_observations(self, observations: npt.ArrayLike) -> FloatArray:
        values = np.asarray(observations, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] != self.observation_dim or len(values) == 0:
            raise UserError(self._shape_message(values.shape))
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            row, column = bad[0]
            raise UserError(f"observation of environment {row} is {values[row, column]} at index {column}")
        return values

    def _shape_message(self, shape: tuple[int, ...]) -> str:
        needed = f"({self.observation_dim},) or (environments, {self.observation_dim})"
        return f"observation has shape {shape}; {self.environment_id} needs {needed}"

    def _check_starts(
        self, episode_start: bool | npt.ArrayLike | None, rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        if episode_start is None:
            return ~self._started[rows]
        flags = np.asarray(episode_start, dtype=np.bool_)
        if flags.ndim > 1 or (flags.ndim == 1 and flags.shape != rows.shape):
            raise UserError(f"episode_start has shape {flags.shape}; one flag or {len(rows)} flags are needed")
        starts = np.broadcast_to(flags, rows.shape)
        if not (starts | self._started[rows]).all():
            row = int(rows[np.argmin(starts | self._started[rows])])
            raise UserError(f"environment {row} has not started an episode yet; its episode_start must be True")
        return starts
