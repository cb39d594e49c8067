"""From where the hand should be to an action: proportional control of place, angle about z, and tilt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from m3pc_ray.environments.manipulation.controller import CONTROLLER
from m3pc_ray.environments.manipulation.quaternions import rotate

FloatArray = npt.NDArray[Any]

_GAIN = 2.0
"""Displacements asked for a displacement that is missing: above 1, since the arm lags what it is asked for."""
_METRES, _RADIANS = CONTROLLER["output_max"][0], CONTROLLER["output_max"][3]
"""Of an action of 1."""
_DOWN = np.array([0.0, 0.0, -1.0])
OPEN, CLOSED = -1.0, 1.0
"""The gripper's action."""


@dataclass(frozen=True)
class Scene:
    """What a full observation says, see `environments.manipulation.observation`."""

    hand: FloatArray
    """(3,) position of the end effector"""
    hand_rotation: FloatArray
    """(4,)"""
    thing: FloatArray
    """(3,) position of the object"""
    thing_rotation: FloatArray
    """(4,)"""

    @classmethod
    def of(cls, observation: npt.ArrayLike) -> Scene:
        """From an observation (19 or 23,)."""
        seen = np.asarray(observation, dtype=np.float64)
        return cls(seen[0:3], seen[3:7], seen[9:12], seen[12:16])

    def across_fingers(self) -> FloatArray:
        """(3,) the direction in which the fingers close: the hand's y axis."""
        return rotate(self.hand_rotation, (0.0, 1.0, 0.0))


def turn_about_z(current: npt.ArrayLike, wanted: npt.ArrayLike, symmetry: int) -> float:
    """The smallest angle, radians, that turns `current` (3,) about z into `wanted` (3,) or one of its equals.

    `symmetry` directions are equal, evenly around z: 1, or 2 for a direction whose sign does not matter, or 4.
    """
    now, then = np.asarray(current, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    angle = np.arctan2(then[1], then[0]) - np.arctan2(now[1], now[0])
    step = 2.0 * np.pi / symmetry
    return float((angle + step / 2.0) % step - step / 2.0)


def towards(scene: Scene, position: npt.ArrayLike, turn: float, gripper: float, speed: float = 1.0) -> FloatArray:
    """(7,) float32 within [-1, 1]: the action that moves the hand to `position` (3,) and turns it by `turn` about z.

    `speed` in (0, 1] bounds the displacement; the gripper is kept pointing down.
    """
    action = np.empty(7)
    action[:3] = np.clip(_GAIN * (np.asarray(position) - scene.hand) / _METRES, -speed, speed)
    tilt = np.cross(rotate(scene.hand_rotation, (0.0, 0.0, 1.0)), _DOWN)
    action[3:6] = np.clip(_GAIN * (tilt + np.array([0.0, 0.0, turn])) / _RADIANS, -1.0, 1.0)
    action[6] = gripper
    return action.astype(np.float32)
