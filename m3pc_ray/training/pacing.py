"""How many gradient steps fit into the minutes, and how far the learning-rate schedule has come."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

MEASURE_STEPS = 30
"""Steps between two looks at the speed; the first look comes after as many."""


@dataclass
class Pace:
    """Progress of one training phase from 0 to 1, by steps or by a time budget.

    With a budget the number of steps that fit is estimated from the measured speed and kept up to date; progress then
    rises by an equal share of what is left at every step, so the schedule ends when the time does, also on a machine
    whose speed changes. Without a budget progress is step / total_steps and independent of time, so that an
    interrupted run continues bit for bit.
    """

    total_steps: int
    budget_seconds: float = 0.0
    """0: no budget."""
    step: int = 0
    progress: float = 0.0
    seconds: float = 0.0
    """Spent so far in this phase, over all sittings."""
    recent_seconds: float = 0.0
    recent_steps: int = 0

    @property
    def finished(self) -> bool:
        return self.step >= self.total_steps or (self.budget_seconds > 0 and self.seconds >= self.budget_seconds)

    @property
    def remaining_seconds(self) -> float:
        """Estimated time to the end; 0 while nothing is measured."""
        if self.budget_seconds > 0:
            return max(0.0, self.budget_seconds - self.seconds)
        return self.seconds / max(1, self.step) * (self.total_steps - self.step)

    def advance(self, seconds: float, steps: int = 1) -> None:
        """Counts `steps` gradient steps that took `seconds` of wall-clock time, pauses for validation included."""
        self.seconds += seconds
        if self.budget_seconds > 0:
            self.recent_seconds += seconds
            self.recent_steps += steps
            if self.recent_steps >= MEASURE_STEPS:
                speed = self.recent_seconds / self.recent_steps
                left = max(0.0, self.budget_seconds - self.seconds)
                self.total_steps = self.step + steps + max(1, int(left / speed))
                self.recent_seconds, self.recent_steps = 0.0, 0
            remaining = max(1, self.total_steps - self.step)
            self.progress += (1.0 - self.progress) * min(1.0, steps / remaining)
        else:
            self.progress = (self.step + steps) / self.total_steps
        self.step += steps

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
