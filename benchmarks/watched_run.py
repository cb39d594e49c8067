"""An online run as its users start it, in a process group of its own, watched through its live.json."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from m3pc_ray.errors import UserError
from m3pc_ray.online.watching.live import LiveStatus, read_live
from m3pc_ray.training.run_folder import RunFolder

POLL_SECONDS = 0.5
STOP_SECONDS = 120.0
"""Longest orderly end after an interrupt, last checkpoint included."""


class WatchedRun:
    """A driver process at work on a run, and the statuses it writes.

    Args:
        run: made by `untrained.untrained_online_run`, or interrupted.
        log: file for the driver's output.
    """

    def __init__(self, run: RunFolder, log: Path) -> None:
        self.run, self.log = run, log
        self.started = time.time()
        with log.open("ab") as output:
            self._driver = subprocess.Popen(
                [sys.executable, "-m", "m3pc_ray.cli", "resume", str(run.path)],
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ray's own output, and a benchmark that is interrupted, must not stop it half way.
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        """Whether the driver is gone."""
        return self._driver.poll() is not None

    def statuses(self, seconds: float) -> Iterator[LiveStatus]:
        """Every new status of this driver for so many seconds, or until it ends.

        Raises:
            UserError: the driver failed; with its last words.
        """
        ends, newest = time.monotonic() + seconds, 0.0
        while True:
            over = self.ended
            try:
                status = read_live(self.run)
            except UserError:  # nothing written yet
                status = None
            if status is not None and status.pid == self._driver.pid and status.time > newest:
                newest = status.time
                yield status
            if over and self._driver.returncode not in (0, 130):
                raise UserError(f"{self.run.path}: the run failed: {self._last_words()}")
            if over or time.monotonic() > ends:
                return
            time.sleep(POLL_SECONDS)

    def wait_for(self, reached: Callable[[LiveStatus], bool], seconds: float) -> LiveStatus:
        """The first status of which `reached` holds.

        Raises:
            UserError: the driver failed, ended before, or took longer.
        """
        for status in self.statuses(seconds):
            if reached(status):
                return status
        raise UserError(f"{self.run.path}: not reached within {seconds:.0f} s: {self._last_words()}")

    def interrupt(self, at_once: bool = False) -> float:
        """Ctrl-C; returns the seconds until the run has ended in order, its last checkpoint written.

        At once: Ctrl-C twice, which neither waits for the leases nor writes a checkpoint.

        Raises:
            UserError: it did not end in time; it is killed then.
        """
        began = time.monotonic()
        if not self.ended:
            self._driver.send_signal(signal.SIGINT)
        if at_once:
            time.sleep(POLL_SECONDS)
            if not self.ended:
                self._driver.send_signal(signal.SIGINT)
        try:
            self._driver.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise UserError(
                f"{self.run.path}: no end {STOP_SECONDS:.0f} s after Ctrl-C: {self._last_words()}"
            ) from None
        return time.monotonic() - began

    def kill(self) -> None:
        """End what is left of the driver's process group, Ray's processes included."""
        if not self.ended:
            os.killpg(self._driver.pid, signal.SIGKILL)
            self._driver.wait()

    def _last_words(self) -> str:
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"


@contextmanager
def watched(run: RunFolder) -> Iterator[WatchedRun]:
    """Start a run's driver; where it has not ended by the end of the block, it is ended at once."""
    driver = WatchedRun(run, run.path / "driver.log")
    try:
        yield driver
        driver.interrupt(at_once=True)
    finally:
        driver.kill()
