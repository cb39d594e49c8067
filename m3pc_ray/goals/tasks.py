"""From what a user types to a task: a built-in name, a YAML file of `configs/goals/`, or waypoints of their own.

hopper-wiggle                     configs/goals/hopper_wiggle.yaml
my_wiggle.yaml                    task: hopper-wiggle, and settings that differ
waypoints.csv, make.py:function   waypoints of the user's own, with default settings
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m3pc_ray.config import BackwardConfig
from m3pc_ray.configuration import convert, shipped_configs, suggestion
from m3pc_ray.errors import UserError
from m3pc_ray.goals.can_carry import CanCarry
from m3pc_ray.goals.halfcheetah_flip import HalfCheetahFlip
from m3pc_ray.goals.hopper_wiggle import HopperWiggle
from m3pc_ray.goals.task import GoalTask
from m3pc_ray.goals.user_waypoints import UserWaypoints
from m3pc_ray.goals.walker2d_split import Walker2dSplit
from m3pc_ray.yaml_text import read_yaml

TASKS: dict[str, type[GoalTask]] = {
    task.name: task for task in (HopperWiggle, Walker2dSplit, HalfCheetahFlip, CanCarry, UserWaypoints)
}
"""Tasks by name."""


@dataclasses.dataclass(frozen=True)
class TaskFile:
    """What a goals file holds."""

    task: GoalTask
    backward: dict[str, Any]
    """Planner settings that go with the task: field of `BackwardConfig` -> value."""


def load_task(reference: str, overrides: Mapping[str, str] | None = None) -> TaskFile:
    """The task that `reference` names, with `overrides` (setting -> text) of its own settings.

    Raises UserError, naming file and setting, for what is unknown or cannot be read.
    """
    path = Path(reference).expanduser()
    suffix = Path(reference.partition(":")[0]).suffix.lower()
    if suffix in (".csv", ".parquet", ".py"):
        tree: dict[str, Any] = {"task": UserWaypoints.name, "file": reference}
        return _from_tree(tree, reference, Path(), overrides or {})
    if suffix in (".yaml", ".yml"):
        shipped = shipped_configs() / "goals" / path.name
        found = shipped if path.name == reference and not path.is_file() else path  # a bare name may be a shipped one
        if not found.is_file():
            raise UserError(f"{reference}: no such file; the shipped ones are {', '.join(shipped_goals())}")
        return _from_tree(read_yaml(found), str(found), found.parent, overrides or {})
    if reference not in shipped_goals():
        known = shipped_goals()
        raise UserError(f"task {reference!r} is not known{suggestion(reference, known, ', '.join(known))}")
    found = shipped_configs() / "goals" / f"{reference.replace('-', '_')}.yaml"
    return _from_tree(read_yaml(found), str(found), found.parent, overrides or {})


def shipped_goals() -> list[str]:
    """Names of the files in `configs/goals/`, as they are typed."""
    return sorted(path.stem.replace("_", "-") for path in (shipped_configs() / "goals").glob("*.yaml"))


def task_settings(task: type[GoalTask]) -> dict[str, Any]:
    """Names of a task's settings and their types."""
    return {field.name: typing.get_type_hints(task)[field.name] for field in dataclasses.fields(task)}


def _from_tree(tree: dict[str, Any], source: str, folder: Path, overrides: Mapping[str, str]) -> TaskFile:
    tree = dict(tree)
    name, backward = tree.pop("task", None), tree.pop("backward", None) or {}
    if not isinstance(name, str) or name not in TASKS:
        known = list(TASKS)
        raise UserError(f"{source}: task: must be one of {', '.join(known)}, not {name!r}")
    if not isinstance(backward, dict):
        raise UserError(f"{source}: backward: must hold settings of the planner, not {backward!r}")
    planner_settings = [field.name for field in dataclasses.fields(BackwardConfig)]
    for key, value in backward.items():
        if key not in planner_settings:
            hint = suggestion(str(key), planner_settings, ", ".join(planner_settings))
            raise UserError(f"{source}: backward.{key}: no such setting{hint}")
        backward[key] = convert(value, typing.get_type_hints(BackwardConfig)[key], f"{source}: backward.{key}")
    task = TASKS[name]
    types = task_settings(task)
    values: dict[str, Any] = {}
    for settings, where in ((tree, source), (overrides, "command line")):
        for key, value in settings.items():
            if key not in types:
                hint = suggestion(str(key), list(types), ", ".join(types))
                raise UserError(f"{where}: {key}: no such setting of task {name}{hint}")
            values[key] = convert(value, types[key], f"{where}: {key}")
    file = values.get("file", "")
    if file and "file" not in overrides and not Path(file.partition(":")[0]).expanduser().is_absolute():
        values["file"] = str(folder / file)  # beside the YAML file that names it
    return TaskFile(task(**values), backward)
