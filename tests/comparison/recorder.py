"""What a method's tests hand it as `record` and `report`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Recorder:
    """Keeps what is recorded, by point; interrupts where it is told to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.kept: dict[int, tuple[int, Any]] = {}
        self.stop_at = stop_at

    def __call__(
        self, point: int, updates: int, policy: Any, row: str = "", environment_steps: int | None = None
    ) -> Mapping[str, Any]:
        if point == self.stop_at:
            raise KeyboardInterrupt
        self.kept[point] = (updates, policy)
        return {}


def nothing(_phase: str, _done: int, _total: int) -> None:
    """A report that nobody reads."""
