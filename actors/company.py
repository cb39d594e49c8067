"""For whom a planner's batch should wait: workers whose next request is expected within the time there is."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection

TURNAROUNDS = 9
"""Newest times from an answer to the next request of which a worker's median is expected."""


class Company:
    """Learns how long each worker takes from an answer to its next request: its simulation and two calls.

    Waiting for a worker that comes later than the wait lasts costs everyone that time for nothing, and often lets the
    batch leave just before the request is there; not waiting for one that comes at once makes it wait for a whole
    batch.

    Args:
        workers: how many are expected to ask at all; until each has asked once, all batches wait.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._seen: set[int] = set()
        self._answered: dict[int, float] = {}
        self._turnarounds: dict[int, deque[float]] = {}

    def note_request(self, worker: int, now: float) -> None:
        """A worker asks."""
        self._seen.add(worker)
        answered = self._answered.pop(worker, None)
        if answered is not None:
            self._turnarounds.setdefault(worker, deque(maxlen=TURNAROUNDS)).append(now - answered)

    def note_answer(self, worker: int, now: float) -> None:
        """A worker's request is answered."""
        self._answered[worker] = now

    def is_coming(self, asking: Collection[int], now: float, seconds: float) -> bool:
        """Whether a worker that is not `asking` may be expected within so many seconds.

        Nobody waits for one that is overdue by more than that: it died, asks elsewhere, or its budget is used up.
        """
        if len(self._seen) < self._workers:
            return True
        return any(
            worker not in asking and worker in self._turnarounds and abs(self._due(worker) - now) <= seconds
            for worker in self._answered
        )

    def _due(self, worker: int) -> float:
        return self._answered[worker] + statistics.median(self._turnarounds[worker])
