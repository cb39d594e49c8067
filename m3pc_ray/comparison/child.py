"""A training in a process of its own: starting it, telling how far it is, handing Ctrl-C on, saying why it failed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from m3pc_ray.comparison.method import Assignment, Report
from m3pc_ray.errors import UserError
from m3pc_ray.training.interrupt import StopRequest

LOOK_SECONDS = 0.5
"""Between two looks at the process."""
SHOWN_CHARACTERS = 600
"""Of what a process said that failed."""


def run_child(command: Sequence[str], assignment: Assignment, report: Report, phase: str, total: int, who: str) -> None:
    """Runs a program to its end; Ctrl-C is handed on to it, and it writes a checkpoint first.

    Args:
        command: the program; it keeps progress.json, `{phase's plural: done}`, in `assignment.folder`.
        phase: `update` or `environment step`, for `report`, which is told of `total`.
        who: whose training it is, for the error and the name of the log.

    Raises:
        UserError: it failed; with what it said.
        KeyboardInterrupt: it was asked to stop, and has.
    """
    folder = assignment.folder
    environment = {**os.environ, "OMP_NUM_THREADS": str(assignment.threads), "PYTHONUNBUFFERED": "1"}
    log_path = folder / f"{who.lower()}.log"
    with log_path.open("ab") as log, StopRequest() as stop:
        began = log.tell()
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # a Ctrl-C on the terminal reaches it through us alone, once
        )
        try:
            asked = False
            while process.poll() is None:
                time.sleep(LOOK_SECONDS)
                report(phase, _progress(folder / "progress.json", phase), total)
                if stop.requested and not asked:
                    asked = True
                    process.send_signal(signal.SIGINT)
        finally:  # a second Ctrl-C, or a defect here, must not leave it behind
            if process.poll() is None:
                process.kill()
                process.wait()
        stop.check()
    if process.returncode:
        said = log_path.read_bytes()[began:].decode(errors="replace").strip()[-SHOWN_CHARACTERS:]
        raise UserError(f"{assignment.dataset}: {who}'s training ended with code {process.returncode}: {said}")


def _progress(path: Path, phase: str) -> int:
    try:
        return int(json.loads(path.read_text())[f"{phase}s".replace(" ", "_")])
    except (OSError, ValueError, KeyError):
        return 0
