"""What is said to the process that started this one: JSON lines on stderr; its answers are lines on stdin."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from types import FrameType
from typing import Any

STOPPED = 130
"""Exit code after a stop that was asked for."""
PROGRESS_SECONDS = 0.5
"""Between two lines of progress."""


class Stopped(Exception):
    """A stop was asked for, or nobody is listening any more."""


class Parent:
    """The other end. While entered, SIGINT and SIGTERM ask for a stop instead of ending the process."""

    def __init__(self) -> None:
        self._asked = False
        self._said_at = -PROGRESS_SECONDS
        self._parent = os.getppid()

    def __enter__(self) -> Parent:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)
        self._say(event="started")
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    @property
    def wants_stop(self) -> bool:
        """Whether to write a checkpoint and end: asked to, or the parent is gone."""
        return self._asked or os.getppid() != self._parent

    def progress(self, phase: str, done: int, total: int) -> None:
        """What is under way, at most every `PROGRESS_SECONDS`, and at its end."""
        if done == total or time.monotonic() - self._said_at >= PROGRESS_SECONDS:
            self._said_at = time.monotonic()
            self._say(event="progress", phase=phase, done=done, total=total)

    def point(self, number: int) -> None:
        """Says that a point is in the files, and waits until it has been dealt with.

        Raises Stopped where the answer is not to go on.
        """
        self._say(event="point", point=number)
        if self._asked or sys.stdin.readline().strip() != "continue":
            raise Stopped

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True

    def _say(self, **values: Any) -> None:
        try:
            sys.stderr.write(json.dumps(values) + "\n")
            sys.stderr.flush()
        except BrokenPipeError:
            self._asked = True
