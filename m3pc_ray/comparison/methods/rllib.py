"""BC, IQL and CQL of RLlib, trained in a process of their own, `python -m actors.offline_rllib`.

RLlib brings Ray and 380 MB with it; the process ends with the training, and what comes back is a plain policy.
"""

from __future__ import annotations

import json
import sys

from m3pc_ray.comparison.child import run_child
from m3pc_ray.comparison.exported_policy import ExportedPolicy
from m3pc_ray.comparison.method import OFFLINE, Assignment, Record, Report
from m3pc_ray.training.run_folder import write_atomically

PROGRAM = "actors.offline_rllib"


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
    folder = assignment.folder
    policy = folder / "policy.safetensors"
    if not policy.is_file():
        work = {
            "algorithm": algorithm,
            "dataset": assignment.reference,
            "seed": assignment.seed,
            "updates": assignment.budget["updates"],
            "threads": assignment.threads,
        }
        write_atomically(folder / "assignment.json", json.dumps(work, indent=2) + "\n")
        run_child([sys.executable, "-m", PROGRAM, str(folder)], assignment, report, "RLlib")
    exported = ExportedPolicy.load(policy)
    record(OFFLINE, exported.updates, exported)
