"""BC, IQL and CQL of RLlib, trained in a process of their own, `python -m actors.offline_rllib`.

RLlib brings Ray and 380 MB with it; the process ends with the training, and what comes back is a plain policy.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

from m3pc_ray.comparison.exported_policy import ExportedPolicy
from m3pc_ray.comparison.method import OFFLINE, Assignment, Record, Report
from m3pc_ray.errors import UserError
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.run_folder import write_atomically

PROGRAM = "actors.offline_rllib"
LOOK_SECONDS = 0.5
"""Between two looks at the process."""
SHOWN_CHARACTERS = 600
"""Of what a process said that failed."""


def bc(assignment: Assignment, record: Record, report: Report) -> None:
    """Behaviour cloning. See `comparison.method.Train`."""
    _train("bc", assignment, record, report)


def iql(assignment: Assignment, record: Record, report: Report) -> None:
    """Implicit Q-learning."""
    _train("iql", assignment, record, report)


def cql(assignment: Assignment, record: Record, report: Report) -> None:
    """Conservative Q-learning."""
    _train("cql", assignment, record, report)


def _train(algorithm: str, assignment: Assignment, record: Record, report: Report) -> None:
    folder, total = assignment.folder, assignment.budget["updates"]
    policy = folder / "policy.safetensors"
    if not policy.is_file():
        work = {
            "algorithm": algorithm,
            "dataset": assignment.reference,
            "seed": assignment.seed,
            "updates": total,
            "threads": assignment.threads,
        }
        write_atomically(folder / "assignment.json", json.dumps(work, indent=2) + "\n")
        _run(assignment, report, total)
    exported = ExportedPolicy.load(policy)
    record(OFFLINE, exported.updates, exported)


def _run(assignment: Assignment, report: Report, total: int) -> None:
    """Runs the program to its end; Ctrl-C is handed on to it, and it writes a checkpoint first.

    Raises UserError with what it said where it fails.
    """
    folder = assignment.folder
    environment = {**os.environ, "OMP_NUM_THREADS": str(assignment.threads), "PYTHONUNBUFFERED": "1"}
    with (folder / "rllib.log").open("ab") as log, StopRequest() as stop:
        process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, str(folder)],
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
                report("update", _progress(assignment), total)
                if stop.requested and not asked:
                    asked = True
                    process.send_signal(signal.SIGINT)
        finally:  # a second Ctrl-C, or a defect here, must not leave it behind
            if process.poll() is None:
                process.kill()
                process.wait()
        stop.check()
    if process.returncode:
        said = (folder / "rllib.log").read_text(errors="replace").strip()[-SHOWN_CHARACTERS:]
        raise UserError(f"{assignment.dataset}: RLlib's training ended with code {process.returncode}: {said}")


def _progress(assignment: Assignment) -> int:
    try:
        return int(json.loads((assignment.folder / "progress.json").read_text())["updates"])
    except (OSError, ValueError, KeyError):
        return 0
