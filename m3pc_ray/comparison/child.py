"""A training in a process of its own: started, heard, told to go on or to stop, and why it failed.

The program says JSON lines on stderr, as `compare_env.d3rlpy_program.messages.Parent` writes them: `{"event":
"started"}`, `{"event": "progress", "phase", "done", "total"}` and `{"event": "point", "point"}`. After a point it waits
for the line `continue` on stdin. Whatever else it says goes to its log.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from m3pc_ray.comparison.method import Assignment, Report
from m3pc_ray.errors import UserError
from m3pc_ray.training.interrupt import StopRequest

LOOK_SECONDS = 0.2
"""Between two looks for Ctrl-C and at the clock."""
SHOWN_LINES = 3
"""Of what a process said that failed."""
STOPPED = 130
"""Its exit code after a stop that it was asked for."""
EVENTS = ("started", "progress", "point")


def run_child(
    command: Sequence[str],
    assignment: Assignment,
    report: Report,
    who: str,
    *,
    environment: Mapping[str, str | None] | None = None,
    on_point: Callable[[int], None] | None = None,
    remedy: str = "",
) -> None:
    """Runs a program to its end; Ctrl-C is handed on to it, and it writes a checkpoint first.

    Args:
        command: the program; it works in `assignment.folder`.
        report: told of its progress, and called at every look besides, so that the account goes on.
        who: whose training it is, for the error and the name of the log.
        environment: variables that it gets, beside ours and the number of threads; None: not that one.
        on_point: called with every point while the program waits.
        remedy: what to do where it does not even start.

    Raises:
        UserError: it failed; with the last that it said.
        KeyboardInterrupt: Ctrl-C, after it has written a checkpoint and ended; or whatever `on_point` raises, after
            which it is gone too.
    """
    with _Child(command, assignment, report, who, environment or {}, remedy) as child:
        while (point := child.next_point()) is not None:
            if on_point is not None:
                on_point(point)
            child.go_on()


class _Child:
    """The process, from its start to its end; nothing of it is left when the block is left."""

    def __init__(
        self,
        command: Sequence[str],
        assignment: Assignment,
        report: Report,
        who: str,
        environment: Mapping[str, str | None],
        remedy: str,
    ) -> None:
        self.assignment, self.report, self.who, self.remedy = assignment, report, who, remedy
        self._command = list(command)
        variables = {**os.environ, "OMP_NUM_THREADS": str(assignment.threads), **environment}
        self._environment = {name: value for name, value in variables.items() if value is not None}
        self._said: deque[str] = deque(maxlen=SHOWN_LINES)
        self._events: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
        self._started = False
        self._progress = (f"start of {who}", 0, 1)

    def __enter__(self) -> _Child:
        self.log_path = self.assignment.folder / f"{self.who.lower()}.log"
        self._log = self.log_path.open("a", encoding="utf-8")
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.PIPE,
            env=self._environment,
            text=True,
            errors="replace",
            start_new_session=True,  # a Ctrl-C on the terminal reaches it through us alone, once
        )
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._process.poll() is None:  # the caller was interrupted or failed, while the program waits or works
            self._process.kill()
            self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stderr, self._log):
            if stream is not None and not stream.closed:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def next_point(self) -> int | None:
        """Waits for the next point; None when the program has ended well. Raises as `run_child` does."""
        with StopRequest() as stop:
            point = self._await(stop)
            if stop.requested:
                self._end()
        stop.check()
        if point is None:
            code = self._process.wait()
            if code:
                self._fail(code)
        return point

    def go_on(self) -> None:
        """The point has been dealt with."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; `next_point` says how
            self._process.stdin.write("continue\n")
            self._process.stdin.flush()

    def _await(self, stop: StopRequest) -> int | None:
        """The next point; None when the program has ended, well or not. A stop is handed on once."""
        asked = False
        while True:
            if stop.requested and not asked:
                asked = True
                if self._started:
                    self._process.send_signal(signal.SIGINT)
                else:  # it does not listen yet, and has nothing to lose
                    self._process.kill()
            self.report(*self._progress)
            try:
                event = self._events.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            if event is None:
                return None
            if event["event"] == "started":
                self._started = True
            elif event["event"] == "progress":
                self._progress = (event["phase"], event["done"], event["total"])
            elif event["event"] == "point":  # it waits, and its checkpoint is written
                return int(event["point"])

    def _end(self) -> None:
        """Lets it end that was asked to stop; whatever waits for an answer gets none."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        code = self._process.wait()
        if self._started and code not in (0, STOPPED):
            self._fail(code)

    def _fail(self, code: int) -> None:
        self._reader.join()
        said = " | ".join(line.strip() for line in self._said if line.strip()) or "it said nothing"
        remedy = f"; {self.remedy}" if self.remedy and not self._started else ""
        raise UserError(
            f"{self.assignment.dataset}: {self.who}'s training ended with code {code}: {said}{remedy} "
            f"(all of it is in {self.log_path})"
        )

    def _listen(self) -> None:
        """Its messages go to the queue, everything else that it says to the log."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            try:
                event = json.loads(line)
                known = isinstance(event, dict) and event["event"] in EVENTS
            except (ValueError, KeyError):
                known = False
            if known:
                self._events.put(event)
            else:
                self._said.append(line)
                self._log.write(line)
                self._log.flush()
        self._events.put(None)
