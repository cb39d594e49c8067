"""Which steps of which episodes the replay has: what drops a fragment that comes twice, in bounded memory."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from m3pc_ray.online.replay.fragments import EpisodeKey


class NumberSet:
    """Numbers kept as the runs they form: memory grows with the gaps between them, not with their count."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __contains__(self, number: int) -> bool:
        place = bisect.bisect_right(self._starts, number) - 1
        return place >= 0 and number < self._stops[place]

    @property
    def num_runs(self) -> int:
        return len(self._starts)

    def add(self, number: int) -> None:
        """Add a number that is not yet in the set."""
        place = bisect.bisect_right(self._starts, number)
        joins_left = place > 0 and self._stops[place - 1] == number
        joins_right = place < len(self._starts) and self._starts[place] == number + 1
        if joins_left and joins_right:
            self._stops[place - 1] = self._stops.pop(place)
            del self._starts[place]
        elif joins_left:
            self._stops[place - 1] += 1
        elif joins_right:
            self._starts[place] -= 1
        else:
            self._starts.insert(place, number)
            self._stops.insert(place, number + 1)


class EpisodeRegister:
    """Per worker: its living incarnation, that one's closed episodes, and its steps over all incarnations.

    Episodes of an incarnation begin in order but close out of order, since a worker plays several at once. Those of
    earlier incarnations are closed, all of them, so nothing is kept of them.
    """

    def __init__(self) -> None:
        self.open_steps: dict[EpisodeKey, int] = {}
        """Steps so far of every episode that goes on."""
        self.worker_steps: dict[int, int] = {}
        self._living: dict[int, int] = {}
        """Lowest incarnation of a worker whose fragments are still accepted."""
        self._newest: dict[int, int] = {}
        self._closed: dict[tuple[int, int], NumberSet] = {}

    def next_step(self, key: EpisodeKey) -> int | None:
        """The step with which an episode's next fragment must start; None: nothing more of it is accepted."""
        if key.incarnation < self._living.get(key.worker, 0):
            return None
        closed = self._closed.get((key.worker, key.incarnation))
        if closed is not None and key.episode in closed:
            return None
        return self.open_steps.get(key, 0)

    def record(self, key: EpisodeKey, steps: int, closes: bool) -> None:
        """Count the next steps of an episode, the last ones where it closes."""
        self.worker_steps[key.worker] = self.worker_steps.get(key.worker, 0) + steps
        self._newest[key.worker] = max(self._newest.get(key.worker, -1), key.incarnation)
        if not closes:
            self.open_steps[key] = self.open_steps.get(key, 0) + steps
            return
        self.open_steps.pop(key, None)
        if key.incarnation >= self._living.get(key.worker, 0):
            self._closed.setdefault((key.worker, key.incarnation), NumberSet()).add(key.episode)

    def newest_incarnations(self) -> dict[int, int]:
        """The highest incarnation seen or given, by worker."""
        return dict(self._newest)

    def note_incarnation(self, worker: int, incarnation: int) -> None:
        """An incarnation exists, whether or not it has written anything."""
        self._newest[worker] = max(self._newest.get(worker, -1), incarnation)

    def keep_newest(self) -> None:
        """Only the newest incarnation of every worker is alive: accept nothing more of the earlier ones."""
        self._living = dict(self._newest)
        for name in [name for name in self._closed if name[1] < self._living[name[0]]]:
            del self._closed[name]

    def retire(self, worker: int) -> Sequence[EpisodeKey]:
        """Accept nothing more of a worker's incarnations so far; returns their open episodes, which must be closed."""
        self._living[worker] = self._newest.get(worker, -1) + 1
        for name in [name for name in self._closed if name[0] == worker]:
            del self._closed[name]
        return [key for key in self.open_steps if key.worker == worker]
