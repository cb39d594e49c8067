"""Watching an online run from outside, through the file that its driver keeps up to date."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live

from m3pc_ray.online.watching.bottleneck import Finding, environments_a_planner, findings
from m3pc_ray.online.watching.live import LiveStatus, read_live, to_json
from m3pc_ray.online.watching.live_view import live_screen
from m3pc_ray.online.watching.processes import driver_is_gone, is_stale
from m3pc_ray.training.run_folder import RunFolder

REFRESH_SECONDS = 1.0
HISTORY = 300
"""Statuses kept to judge the growth of memory: ten minutes of them."""


class Watch:
    """The newest statuses of a run, and what is to be said about them.

    Args:
        run: an online run.
        clock: seconds since 1970.

    Raises:
        UserError: the run has no live status or no configuration.
    """

    def __init__(self, run: RunFolder, clock: Callable[[], float] = time.time) -> None:
        self.run = run
        self._online = run.config().online
        self._clock = clock
        self._history: deque[LiveStatus] = deque([read_live(run)], maxlen=HISTORY)

    @property
    def status(self) -> LiveStatus:
        """The newest one read."""
        return self._history[-1]

    @property
    def dead(self) -> bool:
        """Whether the run failed, or its driver was killed."""
        return self.status.state == "failed" or self._abandoned()

    def look(self) -> bool:
        """Read the status again; whether it is a new one."""
        status = read_live(self.run)
        if status == self.status:
            return False
        self._history.append(status)
        return True

    def findings(self) -> list[Finding]:
        """See `bottleneck.findings`."""
        return findings(self._history, self._online)

    def warning(self) -> str:
        """What a person has to know or do now; empty while all is well."""
        status, again = self.status, f"continue with `m3pc resume {self.run.path}`"
        if status.state in ("failed", "interrupted"):
            return f"The run {'was' if status.state == 'interrupted' else 'has'} {status.state}; {again}"
        age = self._clock() - status.time
        if self._abandoned():
            return f"The driver (process {status.pid}) is gone; its last status is {age:.0f} s old; {again}"
        if is_stale(status, self._clock()):
            where = f"process {status.pid} on {status.host}"
            return f"No news for {age:.0f} s: the driver ({where}) is stuck, or its machine is gone"
        return ""

    def screen(self) -> RenderableType:
        """A frame for a terminal."""
        environments = environments_a_planner(self.status, self._online)
        return live_screen(str(self.run.path), self.status, environments, self.findings(), self.warning())

    def json(self) -> dict[str, Any]:
        """The status with `warning`, `findings` and, as one sentence, `bottleneck`."""
        found = self.findings()
        rows = [{"cause": f.cause, "sentence": f.sentence, "setting": f.setting} for f in found]
        more = {"warning": self.warning(), "findings": rows, "bottleneck": found[-1].sentence}
        return to_json(self.status) | more

    def _abandoned(self) -> bool:
        return is_stale(self.status, self._clock()) and driver_is_gone(self.status)


def watch_live(watch: Watch, console: Console, refresh_seconds: float = REFRESH_SECONDS) -> None:
    """Show the run until it ends, its driver is gone, or Ctrl-C. Into a file goes every new status, one frame each."""
    # Whether it is over is asked before a frame is drawn, so that the last frame says so.
    over = watch.status.ended or watch.dead
    if not console.is_terminal:
        console.print(watch.screen())
        while not over:
            time.sleep(refresh_seconds)
            news = watch.look()
            over = watch.status.ended or watch.dead
            if news or over:
                console.print(watch.screen())
        return
    with Live(watch.screen(), console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while not over:
            time.sleep(refresh_seconds)
            watch.look()
            over = watch.status.ended or watch.dead
            live.update(watch.screen(), refresh=True)
