"""Kills roles of a running online run on purpose, one at a time, and measures what that costs.

Everything is seen through RUN/live.json, so times and counts are as exact as the two seconds between its versions:

 live.json   running, pid 71  |  restarting  |  running, pid 93, restarts + 1  |  ...  |  ...
                    ^ kill           recovery time        ^ back               updates that went back are lost
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from m3pc_ray.errors import UserError
from m3pc_ray.online.watching.live import ROLE_KINDS, LiveStatus, RoleStatus, read_live
from m3pc_ray.online.watching.processes import driver_is_gone, is_stale
from m3pc_ray.training.run_folder import RunFolder

ALL = "all"
RECOVERY_SECONDS = 300.0
"""Longest wait for a role to come back: a learner on a busy machine reads its checkpoint and the whole log."""
SETTLING_STATUSES = 2
"""Statuses looked at after a role is back: a learner's count goes back with its first report, not with its start."""
POLL_SECONDS = 0.2

Killer = Callable[[LiveStatus, RoleStatus], str]
"""Ends a role's process for good and says by which means; ProcessLookupError where it is gone already."""


@dataclass(frozen=True)
class Kill:
    """One role's end and return."""

    role: str
    kind: str
    pid: int
    host: str
    means: str
    """What ended it, as the killer says."""
    steps: int
    """Environment steps logged when it was killed."""
    outcome: Literal["recovered", "run ended", "not recovered"]
    recovery_seconds: float | None
    """Until it ran again as another process; None where it did not."""
    steps_lost: int
    """Environment steps by which the run's count went back; anything but 0 is a defect."""
    updates_lost: dict[str, int]
    """Updates, by kind, by which the learner went back and which it did again."""

    def sentence(self) -> str:
        """What it cost, for people."""
        if self.recovery_seconds is None:
            return f"{self.role} did not come back: {self.outcome}"
        lost = ", ".join(f"{count:,} {kind}" for kind, count in self.updates_lost.items())
        return f"{self.role} back after {self.recovery_seconds:.1f} s; steps lost: {self.steps_lost}; updates: {lost}"


@dataclass
class Losses:
    """By how much counters went back: the largest drop below the highest value seen before."""

    steps: int = 0
    updates: dict[str, int] = field(default_factory=dict)
    _most_steps: int = 0
    _most_updates: dict[str, int] = field(default_factory=dict)

    def see(self, status: LiveStatus) -> None:
        """Take in the next status."""
        self._most_steps = max(self._most_steps, status.steps)
        self.steps = max(self.steps, self._most_steps - status.steps)
        for kind, count in status.updates.items():
            self._most_updates[kind] = max(self._most_updates.get(kind, 0), count)
            self.updates[kind] = max(self.updates.get(kind, 0), self._most_updates[kind] - count)


class Chaos:
    """Kills roles in turn until the run ends or `times` is reached.

    Args:
        run: an online run on Ray that is running.
        killer: ends a role's process.
        chosen: kinds of roles, names of roles, or `all` (every kind the run has); killed in turn, of a kind one at
            random.
        every: seconds between kills; a kill waits until the role killed before is back.
        times: kills in all; None: until the run ends.
        seed: of the choice among the roles of a kind.
        report: receives a line for every kill and return.

    Raises:
        UserError: the run is not running, runs in one process, or has no role of a chosen name.
    """

    def __init__(
        self,
        run: RunFolder,
        killer: Killer,
        chosen: Sequence[str],
        every: float,
        times: int | None = None,
        seed: int = 0,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.run, self.every, self.times = run, every, times
        self._killer, self._report = killer, report
        self._random = random.Random(seed)
        status = read_live(run)
        self._check_running(status)
        self._turns = list(_turns(status, chosen))

    def kills(self) -> Iterator[Kill]:
        """Each kill, once its role is back or will not come back; nothing more is killed after the latter."""
        due, done = time.monotonic(), 0
        turns = itertools.cycle(self._turns)
        while done != self.times and (found := self._wait_for(next(turns), due)) is not None:
            due = time.monotonic() + self.every
            kill = self._kill(*found)
            if kill is None:
                continue
            done += 1
            self._report(kill.sentence())
            yield kill
            if kill.outcome != "recovered":
                return

    def run_failed(self) -> bool:
        """Whether the run ended in failure, or its driver died."""
        status = read_live(self.run)
        return status.state == "failed" or _abandoned(status)

    def _wait_for(self, chosen: str, due: float) -> tuple[LiveStatus, RoleStatus] | None:
        """A running role to kill when it is time, with the status it stands in; None once the run comes to its end."""
        while True:
            status = read_live(self.run)
            if _over(status) or status.state == "finishing":
                return None
            now = time.monotonic()
            roles = [role for role in status.roles if chosen in (role.kind, role.name)]
            ready = [role for role in roles if role.state == "running" and role.pid > 0]
            if now >= due and ready and not is_stale(status, time.time()):
                return status, self._random.choice(ready)
            if now >= due + RECOVERY_SECONDS:
                raise UserError(f"{self.run.path}: no {chosen} was running for {RECOVERY_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def _kill(self, status: LiveStatus, victim: RoleStatus) -> Kill | None:
        """Kill and watch; None where the process had ended by itself."""
        if (victim.host, victim.pid) == (status.host, status.pid):
            raise UserError(f"{victim.name} is the driver's own process ({victim.pid}) and is not killed")
        losses = Losses()
        losses.see(status)
        try:
            means = self._killer(status, victim)
        except ProcessLookupError as error:
            self._report(f"{victim.name} was not killed: {error}")
            return None
        killed = time.monotonic()
        self._report(
            f"killed {victim.name} (process {victim.pid} on {victim.host}) by {means} at step {status.steps:,}"
        )
        outcome, seconds = self._recovery(victim, killed, losses)
        return Kill(
            role=victim.name,
            kind=victim.kind,
            pid=victim.pid,
            host=victim.host,
            means=means,
            steps=status.steps,
            outcome=outcome,
            recovery_seconds=seconds,
            steps_lost=losses.steps,
            updates_lost=losses.updates,
        )

    def _recovery(
        self, victim: RoleStatus, killed: float, losses: Losses
    ) -> tuple[Literal["recovered", "run ended", "not recovered"], float | None]:
        """Watch until the role is back and the counters have settled."""
        seconds: float | None = None
        settled, last = 0, 0.0
        while True:
            status = read_live(self.run)
            waited = time.monotonic() - killed
            if status.time != last:
                last = status.time
                losses.see(status)
                settled += seconds is not None
                if seconds is None and any(_is_back(role, victim) for role in status.roles):
                    seconds = waited
            if seconds is not None and (settled >= SETTLING_STATUSES or _over(status)):
                return "recovered", seconds
            if seconds is None and _over(status):
                return "run ended", None
            if waited > RECOVERY_SECONDS:
                return ("recovered", seconds) if seconds is not None else ("not recovered", None)
            time.sleep(POLL_SECONDS)

    def _check_running(self, status: LiveStatus) -> None:
        path = self.run.path
        if _over(status):
            end = status.state if status.ended else "its driver is gone"
            raise UserError(f"{path}: not running ({end}); continue it with `m3pc resume {path}` first")
        if is_stale(status, time.time()):
            raise UserError(f"{path}: no news for {time.time() - status.time:.0f} s, so nothing is killed on old news")
        if status.state not in ("running", "recovering"):
            raise UserError(
                f"{path}: not running yet or any more, but {status.state}; roles of a running run are killed"
            )
        if not status.ray_address:
            raise UserError(f"{path}: runs in one process (--serial): there are no roles to kill one by one")


def _turns(status: LiveStatus, chosen: Sequence[str]) -> Iterator[str]:
    """Kinds and names in the order of killing. Raises UserError for one that the run does not have."""
    kinds = [kind for kind in ROLE_KINDS if any(role.kind == kind for role in status.roles)]
    known = {*kinds, *(role.name for role in status.roles)}
    for name in chosen:
        if name == ALL:
            yield from kinds
        elif name in known:
            yield name
        else:
            raise UserError(f"--kill {name}: the run has no such role; there are: {', '.join([ALL, *sorted(known)])}")


def _is_back(role: RoleStatus, victim: RoleStatus) -> bool:
    return (
        role.name == victim.name
        and role.state == "running"
        and role.pid not in (0, victim.pid)
        and role.restarts > victim.restarts
    )


def _over(status: LiveStatus) -> bool:
    return status.ended or _abandoned(status)


def _abandoned(status: LiveStatus) -> bool:
    return is_stale(status, time.time()) and driver_is_gone(status)
