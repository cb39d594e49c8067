"""Decision Transformer, Cal-QL, AWAC and a second IQL of d3rlpy, trained in an environment of their own.

d3rlpy needs another gymnasium than Ray does. Here the data is written, the program `compare_env/d3rlpy_program` is run
by the other environment's Python, and its policies are read; none of it imports d3rlpy, and nothing that is read runs
code. docs/comparison.md has the files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

import m3pc_ray
from m3pc_ray.comparison.child import run_child
from m3pc_ray.comparison.decision_transformer import DecisionTransformer, DecisionTransformerAgent
from m3pc_ray.comparison.exported_policy import ExportedPolicy
from m3pc_ray.comparison.method import OFFLINE, Assignment, Record, Report, Train
from m3pc_ray.errors import UserError
from m3pc_ray.training.data import transition_arrays
from m3pc_ray.training.run_folder import write_atomically
from m3pc_ray.trajectories.episodes import DatasetMetadata, Trajectories
from m3pc_ray.trajectories.files import replacing

PYTHON_VARIABLE = "M3PC_COMPARE_PYTHON"
"""Names the Python of an environment with what constraints-compare.txt lists, where it does not lie in the clone."""
PROGRAM_FOLDER = Path(__file__).parents[1] / "compare_env"
PROGRAM = "d3rlpy_program"
REMEDY = f"`make compare-env` makes its environment anew, or {PYTHON_VARIABLE} names another"


def find_python() -> Path:
    """The Python that has d3rlpy. Raises UserError where there is none."""
    named = os.environ.get(PYTHON_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise UserError(
                f"{PYTHON_VARIABLE}={named}: no such file; it names the Python of an environment with d3rlpy"
            )
        return Path(named).absolute()
    for folder in (Path.cwd(), Path(m3pc_ray.__file__).parents[1]):
        if (folder / ".venv-compare/.made").is_file():  # an installation that was broken off lacks it
            return folder.absolute() / ".venv-compare/bin/python"
    raise UserError(
        f"d3rlpy needs an environment of its own; run `make compare-env` in a clone, or set {PYTHON_VARIABLE}"
    )


def program_environment() -> dict[str, str | None]:
    """Variables with which the program is found, and nothing of ours."""
    return {"PYTHONPATH": str(PROGRAM_FOLDER), "PYTHONHOME": None, "VIRTUAL_ENV": None}


def _train(method: str) -> Train:
    def train(assignment: Assignment, record: Record, report: Report) -> None:
        """See `comparison.method.Train`. Raises UserError where the environment is missing or the program fails."""
        python, folder = find_python(), assignment.folder
        prepare(method, assignment)
        points, recorded = (OFFLINE, *assignment.points), set[int]()

        def give(point: int) -> None:
            if point not in recorded:
                recorded.add(point)
                policy = load_policy(policy_path(folder, point), method, assignment.trajectories.metadata)
                record(point, policy.updates, policy)

        for point in points:
            if policy_path(folder, point).is_file():
                give(point)
        if recorded >= set(points):
            return
        command = [str(python), "-P", "-W", "ignore", "-m", PROGRAM, str(folder.absolute())]
        run_child(
            command, assignment, report, "d3rlpy", environment=program_environment(), on_point=give, remedy=REMEDY
        )

    return train


decision_transformer = _train("dt")
iql = _train("iql-d3rlpy")
awac = _train("awac")
cal_ql = _train("cal-ql")


def policy_path(folder: Path, point: int) -> Path:
    """Where the program leaves the policy of a point; it is complete or absent."""
    return folder / f"policy-{point:08d}.safetensors"


def load_policy(path: Path, method: str, metadata: DatasetMetadata) -> ExportedPolicy | DecisionTransformerAgent:
    """A policy that the program left; an agent where it must hear rewards. Raises UserError for a damaged file."""
    if method == "dt":
        return DecisionTransformerAgent(DecisionTransformer.load(path), metadata)
    return ExportedPolicy.load(path)


def prepare(method: str, assignment: Assignment) -> None:
    """Writes assignment.json and transitions.parquet for the program.

    Raises UserError where the folder was begun with another assignment, or the data has nothing to learn from.
    """
    complete = assignment.trajectories.complete_episodes()
    metadata, returns = complete.metadata, complete.returns
    work = {
        "method": method,
        "seed": assignment.seed,
        "threads": assignment.threads,
        "environment_id": metadata.environment_id,
        "updates": assignment.budget["updates"],
        "points": list(assignment.points),
        "observation_dim": complete.observation_dim,
        "action_dim": complete.action_dim,
        "steps": complete.num_steps,
        "best_return": float(returns.max()),
        "worst_return": float(returns.min()),
        "time_limit": max(metadata.max_episode_steps, int(complete.lengths.max())),
    }
    path, data = assignment.folder / "assignment.json", assignment.folder / "transitions.parquet"
    if path.is_file() and data.is_file():
        _check_begun(path, work)
    else:
        write_transitions(complete, data)
    write_atomically(path, json.dumps(work, indent=2) + "\n")


def _check_begun(path: Path, work: Mapping[str, Any]) -> None:
    """Raises UserError where a folder's assignment is another. Points may be added behind those that it has."""
    known = json.loads(path.read_text())
    points = known.get("points", [])
    same = {**work, "threads": known.get("threads"), "points": points}
    differing = [name for name, value in same.items() if name not in known or known[name] != value]
    if work["points"][: len(points)] != points:
        differing.append("points")
    if differing:
        raise UserError(
            f"{path.parent}: begun with other {', '.join(differing)} or by an older version; remove it to train anew"
        )


def write_transitions(trajectories: Trajectories, path: Path) -> None:
    """A row a step, actions in [-1, 1]; `usable`: its successor is known, or it is the task's end.

    Raises UserError where no row is usable.
    """
    metadata = trajectories.metadata
    arrays, usable = transition_arrays(trajectories, np.array(metadata.action_low), np.array(metadata.action_high))
    if not usable.any():
        raise UserError(f"{metadata.name}: no step has a known successor, which d3rlpy's methods need")
    columns: dict[str, Any] = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(arrays[name].reshape(-1)), arrays[name].shape[1])
        for name in ("observations", "actions", "next_observations")
    }
    columns |= {"rewards": arrays["rewards"], "terminated": arrays["terminated"].astype(bool), "usable": usable}
    columns["episode"] = np.repeat(np.arange(trajectories.num_episodes, dtype=np.int32), trajectories.lengths)
    with replacing(path, overwrite=True) as fresh:
        parquet.write_table(pa.table(columns), fresh)
