"""The arm's controller, as in robomimic's data."""

from __future__ import annotations

from typing import Any

CONTROLLER: dict[str, Any] = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "kp": 150,
    "damping_ratio": 1,
    "impedance_mode": "fixed",
    "kp_limits": [0, 300],
    "damping_ratio_limits": [0, 10],
    "position_limits": None,
    "orientation_limits": None,
    "uncouple_pos_ori": True,
    "input_type": "delta",
    "input_ref_frame": "base",
    "interpolation": None,
    "ramp_ratio": 0.2,
}
"""Operational-space control of robomimic's data: an action of 1 is 5 cm or 0.5 rad. The arm's base is not turned in
these tasks, so displacements in its frame are those in the world's, which older versions used."""


def composite() -> dict[str, Any]:
    """The controller in the form of robosuite 1.5: one part of a body that has no other."""
    return {"type": "BASIC", "body_parts": {"right": {**CONTROLLER, "gripper": {"type": "GRIP"}}}}
