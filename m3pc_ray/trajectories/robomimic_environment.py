"""The environment behind a robomimic file: its attribute `env_args`, checked against the tasks that are known here.

A policy learns what its actions do under the controller they were recorded with, so a file made with another one than
our environments have is refused, unless the environment is named by the user.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from m3pc_ray.environments.manipulation.controller import CONTROLLER, composite
from m3pc_ray.environments.manipulation.tasks import CONTROL_FREQUENCY, TASKS, ManipulationTask, task_named
from m3pc_ray.errors import UserError

END_ATTRIBUTE = "end"
"""Of an episode in our own files: why it ended, an `EpisodeEnd` in small letters. Robomimic ignores it."""
_COMPARED = ("type", "input_max", "input_min", "output_max", "output_min", "kp", "impedance_mode", "uncouple_pos_ori")
"""Settings that have the same name in all versions of robosuite."""


@dataclass(frozen=True)
class FileEnvironment:
    """What a file says about where it was recorded."""

    task: ManipulationTask
    robosuite_version: str
    """Empty where the file does not say."""


def environment_args(task: ManipulationTask, robosuite_version: str = "1.5.2") -> dict[str, Any]:
    """`env_args` of a file recorded in one of our environments, in robomimic's form."""
    return {
        "env_name": task.robosuite_name,
        "env_version": robosuite_version,
        "type": 1,  # robomimic's EnvType.ROBOSUITE_TYPE
        "env_kwargs": {
            "robots": ["Panda"],
            "controller_configs": composite(),
            "control_freq": CONTROL_FREQUENCY,
            "reward_shaping": False,
            "has_renderer": False,
            "has_offscreen_renderer": False,
            "use_camera_obs": False,
            "use_object_obs": True,
            "ignore_done": True,
        },
    }


def find_environment(source: str, text: str, environment: str) -> FileEnvironment:
    """The task a file belongs to.

    Args:
        source: the file, for messages.
        text: its `env_args`, JSON; empty where it has none.
        environment: a Gymnasium id that the user gave; empty: the file decides. The file's own task named by the user
            means that nothing is compared.

    Raises:
        UserError: no or another environment, another robot, controller or control frequency; the message says which.
    """
    known = ", ".join(TASKS)
    try:
        told = json.loads(text) if text else {}
        name, settings = told.get("env_name", ""), told.get("env_kwargs") or {}
        version = str(told.get("env_version") or "")
        settings.get("robots")
    except (json.JSONDecodeError, AttributeError) as error:
        raise UserError(f"{source}: attribute 'env_args' of group 'data' is damaged ({error})") from error
    if environment:
        if environment not in TASKS:
            raise UserError(f"{source}: a robomimic file belongs to one of {known}, not to {environment}")
        if name and name != TASKS[environment].robosuite_name:
            raise UserError(f"{source}: was recorded in {name}, which is not {environment}")
    task = task_named(name)
    if environment and (task is None or task.environment_id == environment):
        return FileEnvironment(TASKS[environment], version)
    if task is None:
        what = f"is {name}" if name else "is not named (attribute 'env_args' of group 'data')"
        raise UserError(f"{source}: its environment {what}; known are {known}; name one with --environment")
    difference = _difference(settings)
    if difference:
        raise UserError(f"{source}: {difference}; to read it all the same, give --environment {task.environment_id}")
    return FileEnvironment(TASKS[environment] if environment else task, version)


def _difference(settings: dict[str, Any]) -> str:
    """The first setting in which a file differs from our environments; what it does not say does not differ."""
    robots = settings.get("robots", "Panda")
    if robots not in ("Panda", ["Panda"]):
        return f"its robots are {robots}, our environments have one Panda"
    if not _equal(settings.get("control_freq", CONTROL_FREQUENCY), CONTROL_FREQUENCY):
        return f"its control_freq is {settings['control_freq']}, our environments have {CONTROL_FREQUENCY}"
    if settings.get("reward_shaping"):
        return "its rewards are shaped, our environments have sparse ones"
    arm = _arm(settings.get("controller_configs") or {})
    ours = {**CONTROLLER, "damping": CONTROLLER["damping_ratio"], "control_delta": True}
    for name in (*_COMPARED, "damping", "damping_ratio", "control_delta", "input_type"):
        if name in arm and not _equal(arm[name], ours[name]):
            return f"its controller has {name} {arm[name]}, our environments have {ours[name]}"
    return ""


def _arm(controller: Any) -> dict[str, Any]:
    """The arm's part: robosuite up to 1.4 has it alone, perhaps in a list; later versions among the body's parts."""
    if isinstance(controller, list):
        controller = controller[0] if controller else {}
    if not isinstance(controller, dict):
        return {}
    parts = controller.get("body_parts")
    if not isinstance(parts, dict):
        return controller
    arms = parts.get("arms", parts)
    return arms.get("right", {}) if isinstance(arms, dict) else {}


def _equal(theirs: Any, ours: Any) -> bool:
    try:
        return bool(np.all(np.equal(theirs, ours)))  # one number may stand for all six directions
    except (TypeError, ValueError):
        return bool(theirs == ours)
