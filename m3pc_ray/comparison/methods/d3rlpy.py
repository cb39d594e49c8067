"""Decision Transformer, Cal-QL, AWAC and a second IQL of d3rlpy, in the environment of their own that d3rlpy needs.

The program there is `comparison/d3rlpy_program.py`, which says what goes to and fro: steps and results as Parquet,
policies as plain arrays.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch

import m3pc_ray
from m3pc_ray.comparison.child import run_child
from m3pc_ray.comparison.exported_policy import ExportedPolicy
from m3pc_ray.comparison.method import OFFLINE, Assignment, Played, Record, Report
from m3pc_ray.environments.actions import to_model_range
from m3pc_ray.errors import UserError
from m3pc_ray.training.run_folder import write_atomically
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from m3pc_ray.trajectories.files import replacing
from m3pc_ray.trajectories.validity import both

PYTHON_VARIABLE = "M3PC_COMPARE_PYTHON"
"""Names the Python of an environment that has d3rlpy, where it does not lie in the clone."""
PROGRAM = Path(__file__).parents[1] / "d3rlpy_program.py"
LEAST_EPISODE = 2
"""d3rlpy takes no shorter episodes: the last step of one that was cut has no successor."""


def find_python() -> Path:
    """The Python that has d3rlpy. Raises UserError where there is none."""
    named = os.environ.get(PYTHON_VARIABLE)
    clone = Path(m3pc_ray.__file__).parents[1]
    for path in [Path(named)] if named else [Path(".venv-compare/bin/python"), clone / ".venv-compare/bin/python"]:
        if path.is_file():
            return path.absolute()
    raise UserError(
        f"{PYTHON_VARIABLE}={named}: no such file; it names the Python of an environment with d3rlpy"
        if named
        else f"d3rlpy needs an environment of its own; run `make compare-env` in a clone, or set {PYTHON_VARIABLE}"
    )


def decision_transformer(assignment: Assignment, record: Record, report: Report) -> None:
    """Decision Transformer; it plays its episodes itself, since it must be told what every step earned."""
    _train("dt", assignment, record, report)


def iql(assignment: Assignment, record: Record, report: Report) -> None:
    """Implicit Q-learning, online too."""
    _train("iql-d3rlpy", assignment, record, report)


def awac(assignment: Assignment, record: Record, report: Report) -> None:
    """Advantage-weighted actor-critic."""
    _train("awac", assignment, record, report)


def cal_ql(assignment: Assignment, record: Record, report: Report) -> None:
    """Calibrated Q-learning."""
    _train("cal-ql", assignment, record, report)


def _train(method: str, assignment: Assignment, record: Record, report: Report) -> None:
    python, folder = find_python(), assignment.folder
    if not (folder / "transitions.parquet").is_file():
        write_transitions(assignment.trajectories, folder / "transitions.parquet")
    for point in (OFFLINE, *assignment.points):
        result = folder / f"result-{point:08d}.parquet"
        if not result.is_file():
            phase, total = ("environment step", assignment.online_steps) if point else ("update", _updates(assignment))
            write_atomically(folder / "assignment.json", json.dumps(_work(method, assignment, point), indent=2) + "\n")
            run_child([str(python), "-P", str(PROGRAM), str(folder)], assignment, report, phase, total, "d3rlpy")
        row = parquet.read_table(result).to_pylist()[0]
        if row["returns"] is None:
            record(point, row["updates"], load_policy(folder / f"policy-{point:08d}.npz", row["updates"]))
        else:
            record(point, row["updates"], Played(row["returns"], row["lengths"]))


def _updates(assignment: Assignment) -> int:
    return assignment.budget["updates"]


def _work(method: str, assignment: Assignment, point: int) -> dict[str, Any]:
    return {
        "method": method,
        "seed": assignment.seed,
        "threads": assignment.threads,
        "environment_id": assignment.environment_id,
        "updates": _updates(assignment),
        "stop": point,
        "evaluation": {"seed": assignment.evaluation.seed, "episodes": assignment.evaluation.episodes},
    }


def write_transitions(trajectories: Trajectories, path: Path) -> None:
    """The steps as the program reads them; episodes of which an action or a reward is missing are left out.

    Raises UserError where none is left.
    """
    metadata = trajectories.metadata
    low, high = (np.asarray(getattr(metadata, f"action_{side}"), np.float32) for side in ("low", "high"))
    starts, known = trajectories.episode_starts, both(trajectories.actions_known, trajectories.rewards_known)
    steps = len(trajectories.rewards)
    last = starts[1:] - 1
    ended = np.zeros((2, steps), dtype=np.bool_)
    ended[0, last] = trajectories.episode_ends == EpisodeEnd.TERMINATED
    ended[1, last] = trajectories.episode_ends != EpisodeEnd.TERMINATED
    keep = np.zeros(steps, dtype=np.bool_)
    for first, after in zip(starts[:-1], starts[1:], strict=True):
        keep[first:after] = after - first >= LEAST_EPISODE and (known is None or bool(known[first:after].all()))
    if not keep.any():
        raise UserError(f"{metadata.name}: no episode has all of its actions and rewards, which d3rlpy needs")
    columns = {
        "observation": list(trajectories.observations[keep]),
        "action": list(to_model_range(trajectories.actions, low, high)[keep]),
        "reward": trajectories.rewards[keep],
        "terminated": ended[0, keep],
        "cut": ended[1, keep],
    }
    with replacing(path, overwrite=True) as fresh:
        parquet.write_table(pa.table(columns), fresh)


def load_policy(path: Path, updates: int) -> ExportedPolicy:
    """The policy that the program left. Raises UserError where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            count = len(arrays.files) // 2
            layers = [
                tuple(torch.from_numpy(arrays[f"{part}{i}"]) for part in ("weight", "bias")) for i in range(count)
            ]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path}: damaged ({error}); remove it and result-* of the same number to train again"
        ) from error
    return ExportedPolicy([(weight, bias) for weight, bias in layers], "relu", "tanh", updates)
