"""What every role on Ray has: an account of itself that it gives while it is busy, and patience with those it calls."""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from m3pc_ray.errors import UserError

CONTROL = "control"
"""Concurrency group of the calls that must be answered while a role works."""
PATIENCE_SECONDS = 600.0
"""How long a role waits for another to come back; the driver gives up on a crash loop long before."""
PAUSE_SECONDS = 0.2
"""Between two attempts: a process is back after about a second."""


class RolesGoneError(UserError):
    """A role that was called stayed away for longer than `PATIENCE_SECONDS`."""


@dataclass(frozen=True)
class RoleAccount:
    """A role's answer to the driver."""

    pid: int
    host: str
    memory_bytes: int
    """Resident."""
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Colleagues:
    """The roles that others call, by name: an actor that was made with handles may, Ray says, not be made again.

    Args:
        namespace: in which the run's roles have their names.
        planners: how many there are.
    """

    namespace: str
    planners: int

    def replay(self) -> Any:
        """Its handle."""
        return ray.get_actor("replay", self.namespace)

    def all_planners(self) -> list[Any]:
        """Their handles, in order."""
        return [ray.get_actor(f"planner-{number}", self.namespace) for number in range(self.planners)]


class Role:
    """Base of the actors. A subclass overrides `values`."""

    def values(self) -> dict[str, float]:
        """Numbers of its own for the live view, since the last question."""
        return {}

    @ray.method(concurrency_group=CONTROL)
    def account(self) -> RoleAccount:
        """Who and how large this process is, and its numbers."""
        return RoleAccount(os.getpid(), socket.gethostname(), _resident_bytes(), self.values())

    @ray.method(concurrency_group=CONTROL)
    def stacks(self) -> str:
        """Where every thread of the process stands now."""
        parts = [
            f"thread {number}:\n" + "".join(traceback.format_stack(frame))
            for number, frame in sys._current_frames().items()
        ]
        return "\n".join(parts)


def persistently(ask: Callable[[], ray.ObjectRef], patience: float = PATIENCE_SECONDS) -> Any:
    """The answer of a call that may be repeated, from a role that may be restarting.

    Raises:
        RolesGoneError: it did not come back in time.
        RayTaskError: the call itself failed.
    """
    ends = time.monotonic() + patience
    while True:
        try:
            return ray.get(ask())
        except RayActorError as error:
            if time.monotonic() > ends:
                reason = str(error).strip().splitlines()[-1]
                raise RolesGoneError(
                    f"a role did not come back within {patience:.0f} s ({reason}); collected steps and the last "
                    "checkpoint are safe"
                ) from error
            time.sleep(PAUSE_SECONDS)


def was_restarted() -> bool:
    """Whether Ray made this actor again after its process died."""
    if not ray.is_initialized():
        return False
    context = ray.get_runtime_context()
    return context.get_actor_id() is not None and bool(context.was_current_actor_reconstructed)


def root_cause(error: BaseException) -> BaseException:
    """What a chain of calls between roles failed with in the first place."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException) and error.cause is not error:
        error = error.cause
    return error


def is_absence(error: BaseException) -> bool:
    """Whether a call failed because a process is gone, its own or one whose object it needed; it may be repeated."""
    return isinstance(root_cause(error), RayActorError | ObjectLostError)


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: the largest size so far
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
