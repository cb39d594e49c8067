"""Methods that cost nothing, registered beside the real ones, and small comparisons with them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3pc_ray import cli
from m3pc_ray.comparison.method import OFFLINE, Assignment, Record, Report
from m3pc_ray.comparison.registry import METHODS, Method

CALLS: list[str] = []
"""What the methods were asked for, in order."""
EVENTS: dict[str, Any] = {}
"""`break_at`: a point before whose end `steady` is interrupted once; `work_seconds`: of training a stage;
`act_seconds`: of every action."""


def constant(value: float, action_dim: int) -> Any:
    """A policy that always does the same."""

    def policy(observations: np.ndarray) -> np.ndarray:
        time.sleep(EVENTS.get("act_seconds", 0.0))
        return np.full((len(observations), action_dim), value, np.float32)

    return policy


def steady(assignment: Assignment, record: Record, report: Report) -> None:
    """Learns nothing: acts by a number that depends on seed and point, and remembers how far it has come."""
    CALLS.append(f"{assignment.dataset} steady s{assignment.seed}")
    state = assignment.folder / "reached.json"
    reached = json.loads(state.read_text()) if state.is_file() else OFFLINE
    for point in (OFFLINE, *assignment.points):
        if point < reached:
            continue
        time.sleep(EVENTS.get("work_seconds", 0.0))
        state.write_text(json.dumps(point))
        report("step", point, assignment.online_steps)
        if EVENTS.get("break_at") == point:
            del EVENTS["break_at"]
            raise KeyboardInterrupt
        CALLS.append(f"record {point}")
        policy = constant(0.1 * assignment.seed + 1e-4 * point, assignment.trajectories.action_dim)
        record(point, assignment.budget["updates"] + point, policy)


def still(assignment: Assignment, record: Record, report: Report) -> None:
    """Offline only, two rows."""
    CALLS.append(f"{assignment.dataset} still s{assignment.seed}")
    for row, value in (("still-a", 0.0), ("still-b", 0.0)):
        record(OFFLINE, assignment.budget["updates"], constant(value, assignment.trajectories.action_dim), row)


def forgetful(assignment: Assignment, record: Record, report: Report) -> None:
    """Ends without having recorded anything."""


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """For one test: `steady`, `still`, `forgetful`, and `lacking`, which needs a package that nobody has."""
    CALLS.clear()
    EVENTS.clear()
    here = "tests.comparison.factory"
    for method in (
        Method("steady", f"{here}:steady", {"steady": "Steady"}, {"updates": 7}, online_rows=("steady",)),
        Method("still", f"{here}:still", {"still-a": "Still A", "still-b": "Still B"}, {"updates": 3}),
        Method("forgetful", f"{here}:forgetful", {"forgetful": "Forgetful"}, {"updates": 1}),
        Method(
            "lacking", f"{here}:still", {"l": "L"}, {"updates": 1}, needs=("no_such_package",), install="install it"
        ),
    ):
        monkeypatch.setitem(METHODS, method.name, method)


def compare(out: Path, *words: str) -> int:
    """`m3pc compare --out OUT ...`, one episode a cell unless told otherwise at the first call."""
    first = [] if (out / "settings.json").exists() or "--episodes" in words else ["--episodes", "2"]
    return cli.main(["compare", "--out", str(out), *first, *words])
