"""Updates per environment step, held from both sides.

The promise: when all S steps of the run are taken, exactly round(ratio x S) updates of each kind are done, where round
is Python's; at any moment before, `owed(kind)` = round(ratio x steps so far) - updates so far stays within
`tolerance_steps` worth of updates (plus one worker lease at most, since steps are granted in leases).

           start_steps                           total_steps
 steps     |---no update---|------------------------------|
 updates                   round(ratio x steps), from round(ratio x (steps - tolerance))
                                                 to round(ratio x (steps + tolerance))
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any


class RateLimiter:
    """Counts steps and updates; says how many more of each may happen now.

    Args:
        total_steps: environment steps of the whole run.
        updates_per_step: ratio by kind of update, e.g. {"btm": 0.2, "critic": 2.0}; a ratio of 0 asks for none.
        start_steps: steps before the first update (all steps, where that is less).
        tolerance_steps: how far updates may be from the promised ratio, in environment steps, either way.
        clock: seconds; replaceable in tests.
    """

    def __init__(
        self,
        total_steps: int,
        updates_per_step: Mapping[str, float],
        start_steps: int,
        tolerance_steps: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total_steps = total_steps
        self.updates_per_step = dict(updates_per_step)
        self.start_steps = min(start_steps, total_steps)
        self.tolerance_steps = tolerance_steps
        self.steps = 0
        self.updates = dict.fromkeys(self.updates_per_step, 0)
        self._clock = clock
        self._started: float | None = None
        self._elapsed_before = 0.0
        self._waiting_since: dict[str, float | None] = {"steps": None, "updates": None}
        self._waited = {"steps": 0.0, "updates": 0.0}

    def target(self, kind: str, steps: int) -> int:
        """Updates of a kind that belong to so many environment steps: round(ratio x steps)."""
        return round(self.updates_per_step[kind] * steps)

    def record_steps(self, count: int) -> None:
        """Count environment steps that reached the replay.

        Raises:
            ValueError: more steps than the run has.
        """
        self.check_steps(count)
        self.steps += count

    def check_steps(self, count: int) -> None:
        """Raises ValueError where so many more steps would be more than the run has."""
        if self.steps + count > self.total_steps:
            raise ValueError(f"{self.steps} + {count} steps exceed the {self.total_steps} of the run")

    def record_updates(self, updates: Mapping[str, int]) -> None:
        """Set how many updates of each kind are done in all (absolute, so that saying it twice does no harm)."""
        for kind, count in updates.items():
            if count > self.target(kind, self.total_steps):
                raise ValueError(f"{count} {kind} updates exceed the promised {self.target(kind, self.total_steps)}")
            self.updates[kind] = count

    def owed_updates(self) -> dict[str, int]:
        """Updates of each kind still to do for the steps taken so far; negative where updates ran ahead."""
        return {kind: self.target(kind, self._due_steps()) - done for kind, done in self.updates.items()}

    def permitted_updates(self) -> dict[str, int]:
        """Updates of each kind that may be done now, running ahead of the steps by at most the tolerance."""
        due = self._due_steps()
        limit = min(due + self.tolerance_steps, self.total_steps) if due > 0 else 0
        permitted = {kind: max(0, self.target(kind, limit) - done) for kind, done in self.updates.items()}
        self._note("updates", not any(permitted.values()) and not self.finished)
        return permitted

    def step_limit(self) -> int:
        """Steps, from the run's first, that may have been granted by now."""
        limits = [
            self._last_step_with_target(kind, done) + 1 + self.tolerance_steps
            for kind, done in self.updates.items()
            if self.updates_per_step[kind] > 0
        ]
        return min([self.total_steps, *(max(self.start_steps, limit) for limit in limits)])

    def note_step_wait(self, waiting: bool) -> None:
        """Tell whether rollouts stand still now because of `step_limit`; their waiting time is summed."""
        self._note("steps", waiting)

    @property
    def finished(self) -> bool:
        """Whether every step is taken and every promised update done."""
        return self.steps == self.total_steps and not any(self.owed_updates().values())

    def waiting_fractions(self) -> dict[str, float]:
        """Share of the time since the first question that each side, `steps` or `updates`, waited for the other.

        Times that `load` restored count; the time between does not.
        """
        elapsed, waited = self._times()
        return {side: seconds / max(elapsed, 1e-9) for side, seconds in waited.items()}

    def save(self) -> dict[str, Any]:
        """Counters and times, JSON-able."""
        elapsed, waited = self._times()
        return {
            "total_steps": self.total_steps,
            "steps": self.steps,
            "updates": dict(self.updates),
            "elapsed_seconds": elapsed,
            "waiting_seconds": waited,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on with the times of `save`. Its counters are for readers: steps come from the log, updates from the
        learner, neither of which a file beside them could contradict.

        Raises:
            ValueError: a time is missing or none.
        """
        try:
            elapsed = float(state["elapsed_seconds"])
            waited = {side: float(state["waiting_seconds"][side]) for side in self._waited}
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"no times of a rate limiter: {error!r}") from error
        if not all(0.0 <= seconds <= 1.001 * elapsed < math.inf for seconds in waited.values()):  # sums are rounded
            raise ValueError(f"waited {waited} seconds of {elapsed}")
        self._elapsed_before, self._waited = elapsed, waited

    def _due_steps(self) -> int:
        return self.steps if self.steps >= self.start_steps else 0

    def _last_step_with_target(self, kind: str, done: int) -> int:
        """The largest number of steps that asks for no more than `done` updates."""
        steps = math.floor((done + 0.5) / self.updates_per_step[kind])
        while self.target(kind, steps) > done:
            steps -= 1
        while self.target(kind, steps + 1) <= done:
            steps += 1
        return steps

    def _times(self) -> tuple[float, dict[str, float]]:
        """Seconds since the first question, and seconds that each side has waited of them."""
        now = self._clock()
        waited = {
            side: self._waited[side] + (0.0 if since is None else now - since)
            for side, since in self._waiting_since.items()
        }
        return self._elapsed_before + (0.0 if self._started is None else now - self._started), waited

    def _note(self, side: str, waiting: bool) -> None:
        now, since = self._clock(), self._waiting_since[side]
        if self._started is None:
            self._started = now
        if waiting and since is None:
            self._waiting_since[side] = now
        elif not waiting and since is not None:
            self._waited[side] += now - since
            self._waiting_since[side] = None
