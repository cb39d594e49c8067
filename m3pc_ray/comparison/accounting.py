"""What training costs: wall seconds, and CPU seconds of this process and of all that it has started."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time
from pathlib import Path

from m3pc_ray.training.run_folder import write_atomically

WRITE_SECONDS = 2.0
"""Between two writings of the account: what a killed process may lose of it."""
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> float:
    """CPU seconds of this process, its threads, its children that have ended and its descendants that run.

    Descendants that run are read from /proc; where there is none, as on macOS, they count once they have ended.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + _running_descendants(os.getpid())


def _running_descendants(root: int) -> float:
    children: dict[int, list[int]] = {}
    seconds: dict[int, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it ends while it is read
            # The name of the program, in parentheses, may hold blanks; the fields behind it are numbered from 3 on.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            process, parent = int(folder.name), int(fields[1])
            children.setdefault(parent, []).append(process)
            # utime, stime, and both of its own children that have ended: fields 14 to 17 of proc(5)
            seconds[process] = sum(map(int, fields[11:15])) / _TICKS
    total, left = 0.0, list(children.get(root, ()))
    while left:
        process = left.pop()
        total += seconds[process]
        left += children.get(process, ())
    return total


class Account:
    """Seconds by point, kept in a file, so that a training that is continued goes on counting.

    The point that is open is the one being worked towards. Time in which none is open, such as that of evaluations, is
    not counted.

    Args:
        path: of the file, JSON.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._spent: dict[int, list[float]] = {}
        if path.is_file():
            self._spent = {int(point): list(spent) for point, spent in json.loads(path.read_text()).items()}
        self._open: int | None = None
        self._since = (0.0, 0.0)
        self._written = 0.0

    def open(self, point: int) -> None:
        """From now on time belongs to this point."""
        self.close()
        self._open, self._since = point, (time.monotonic(), cpu_seconds())
        self._written = time.monotonic()

    def close(self) -> None:
        """Count what has passed, and nothing from now on."""
        if self._open is not None:
            self._count()
            self._open = None

    def note(self) -> None:
        """Keep what has passed, if the last time is long enough ago."""
        if self._open is not None and time.monotonic() - self._written > WRITE_SECONDS:
            self._count()

    def spent(self, point: int) -> tuple[float, float]:
        """(wall, CPU) seconds counted for a point."""
        wall, cpu = self._spent.get(point, (0.0, 0.0))
        return wall, cpu

    def _count(self) -> None:
        assert self._open is not None
        now = (time.monotonic(), cpu_seconds())
        spent = self._spent.setdefault(self._open, [0.0, 0.0])
        for i in range(2):
            spent[i] += max(0.0, now[i] - self._since[i])
        self._since, self._written = now, now[0]
        write_atomically(self.path, json.dumps(self._spent) + "\n")
