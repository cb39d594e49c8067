"""Processes of this machine, read from /proc: is one there, what is it, and ending exactly that one (Linux)."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from m3pc_ray.online.watching.live import LiveStatus

STALE_SECONDS = 10.0
"""A status older than this is no longer news: the driver writes one every two seconds."""
RAY_TITLE = "ray::"
"""What Ray puts first in the command line of a process that carries out an actor or a task."""


def process_exists(pid: int) -> bool:
    """Whether this machine has the process and it has not ended (one that its parent has not collected yet has)."""
    try:
        # The name in parentheses may hold anything; the state letter follows the last of them.
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def process_title(pid: int) -> str:
    """Its command line; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def is_ray_worker(pid: int) -> bool:
    """Whether the process carries out an actor or a task of Ray."""
    return process_title(pid).startswith(RAY_TITLE)


def end_worker(pid: int) -> None:
    """SIGKILL to a process of Ray, and to nothing else.

    Raises:
        ProcessLookupError: there is no such process, or it is not Ray's.
        PermissionError: it belongs to another user.
    """
    # Through a descriptor: after the look the number alone could have become another process's.
    descriptor = os.pidfd_open(pid)
    try:
        if not is_ray_worker(pid):
            raise ProcessLookupError(f"process {pid} is not one of Ray's: {process_title(pid) or 'it has ended'}")
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)


def is_stale(status: LiveStatus, now: float) -> bool:
    """Whether the driver should have replaced this status by `now` (seconds since 1970) and has not."""
    return not status.ended and now - status.time > STALE_SECONDS


def driver_is_gone(status: LiveStatus) -> bool:
    """Whether the driver ran on this machine and its process has ended."""
    return status.host == socket.gethostname() and not process_exists(status.pid)
