"""A driver as a process of its own that a test may kill, and every process that comes of it.

The driver leads a session of its own, in the sense of setsid(2), which all that Ray starts for it belongs to; it stays
their session after the driver is gone and they have another parent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from m3pc_ray.errors import UserError
from m3pc_ray.online.watching.live import LiveStatus, read_live
from m3pc_ray.online.watching.processes import process_title
from m3pc_ray.training.run_folder import RunFolder

REPOSITORY = Path(__file__).parents[2]
MAIN = "import sys; from m3pc_ray.cli import main; sys.exit(main())"
POLL_SECONDS = 0.02
START_SECONDS = 240.0
"""Longest wait for a phase of a run on a machine that others use too."""


class Driver:
    """A running command; a context manager that leaves none of its processes.

    Args:
        command: program and arguments.
        output: file that takes what it prints; appended to.
    """

    def __init__(self, command: list[str], output: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), environment.get("PYTHONPATH", "")])
        self.output = output
        with output.open("ab") as file:
            self.process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in [self.process.pid, *self.offspring()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def offspring(self) -> dict[int, str]:
        """Title by process id of everything that lives in the driver's session, but for the driver."""
        return {pid: process_title(pid) for pid in _session(self.process.pid) if pid != self.process.pid}

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Look again and again; fails where the command ends before, or it takes too long."""
        ends = time.monotonic() + START_SECONDS
        while not condition():
            assert self.process.poll() is None, f"ended before {what}:\n{self.output.read_text()[-3000:]}"
            assert time.monotonic() < ends, f"waited in vain until {what}:\n{self.output.read_text()[-3000:]}"
            time.sleep(POLL_SECONDS)

    def wait_until_gone(self, seconds: float, which: Callable[[str], bool] = lambda _: True) -> float:
        """Seconds until nothing of its offspring, or of those whose title `which` accepts, lives any more."""
        started = time.monotonic()
        while living := {pid: title for pid, title in self.offspring().items() if which(title)}:
            assert time.monotonic() - started < seconds, f"after {seconds:g} s there still are {living}"
            time.sleep(POLL_SECONDS)
        return time.monotonic() - started

    def kill(self) -> None:
        """SIGKILL to the driver's process and to no other."""
        self.process.kill()
        self.process.wait()

    def wait(self, seconds: float = START_SECONDS) -> int:
        """Its exit code; raises subprocess.TimeoutExpired where it takes longer."""
        return self.process.wait(timeout=seconds)


def m3pc(*words: str) -> list[str]:
    """The command line of this source tree."""
    return [sys.executable, "-c", MAIN, *words]


def finetune(source: RunFolder, out: Path, *options: str) -> list[str]:
    """`m3pc finetune` for a tiny run without evaluations on the way."""
    words = ["finetune", "--run", str(source.path), "--out", str(out)]
    return m3pc(*words, "--online.evaluate_every", "0", "--online.evaluation_episodes", "1", *options)


def live(path: Path) -> LiveStatus | None:
    """The run's newest status; None where it has none yet."""
    try:
        return read_live(RunFolder(path))
    except UserError:
        return None


def is_running(path: Path, driver: Driver) -> bool:
    """Whether this driver, not an earlier one, has begun to train."""
    status = live(path)
    return status is not None and status.pid == driver.process.pid and status.state in ("running", "recovering")


def _session(leader: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            state, session = fields[0], int(fields[3])
            if session == leader and state not in "ZX":
                yield int(entry.name)
