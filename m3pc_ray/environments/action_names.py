"""What the entries of an action drive: names from the simulator's own model."""

from __future__ import annotations

from typing import Any

import gymnasium


def action_names(environment: gymnasium.Env[Any, Any], action_dim: int) -> list[str]:
    """(action_dim,) names such as `thigh joint`, of the joints that actuators drive; `action 3` where unknown.

    They are read from a MuJoCo model that has one actuator an entry; other environments have no names to read.
    """
    unknown = [f"action {index}" for index in range(action_dim)]
    model = getattr(environment.unwrapped, "model", None)
    if model is None or getattr(model, "nu", None) != action_dim:
        return unknown
    import mujoco

    joints = (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))
    names = []
    for index in range(action_dim):
        driven = int(model.actuator_trnid[index, 0]) if int(model.actuator_trntype[index]) in joints else -1
        name = model.actuator(index).name or (model.joint(driven).name if driven >= 0 else "")
        names.append(name.replace("_", " ") or unknown[index])
    return names
