"""The observation of a manipulation task, in the order in which robomimic's low-dimensional policies see it.

entries   0..2           3..6           7..8      9..11      12..15     16..18               19..22
          end effector   end effector   gripper   object     object     object as seen       object as seen
          position       rotation       fingers   position   rotation   from it: position    from it: rotation

Positions are in metres, rotations quaternions (x, y, z, w). Lift has no entry 19 and after, and its entries 16 to 18
are the way from the cube to the end effector in the world's axes; limited tasks end with entry 11. Simulator and files
go through this module, so that a policy sees the same in both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from m3pc_ray.environments.manipulation import quaternions
from m3pc_ray.environments.manipulation.tasks import ManipulationTask

FloatArray = npt.NDArray[Any]

_UPRIGHT = (0.0, 0.0, 0.0, 1.0)
_DOWNWARDS = (1.0, 0.0, 0.0, 0.0)
"""The gripper's rotation when it points down: half a turn about x."""


def first_rotations(task: ManipulationTask) -> dict[int, tuple[float, float, float, float]]:
    """First entry of every quaternion of the observation: the rotation whose hemisphere an episode's first one takes.

    Objects stand upright, turned about z, and are seen from a gripper that points down.
    """
    rotations = {3: _DOWNWARDS}
    if not task.position_only:
        rotations[12] = _UPRIGHT
        if task.relative_rotation:
            rotations[19] = _DOWNWARDS
    return rotations


def seen_from_gripper(task: ManipulationTask, robot: FloatArray, poses: FloatArray) -> FloatArray:
    """(steps, 7) or, in Lift, (steps, 3): the object relative to the end effector.

    Args:
        robot: (steps, 7 or more) position and rotation of the end effector.
        poses: (steps, 7) position and rotation of the object.
    """
    if not task.relative_rotation:
        return robot[:, :3] - poses[:, :3]
    position = quaternions.rotate_back(robot[:, 3:7], poses[:, :3] - robot[:, :3])
    return np.concatenate([position, quaternions.relative(robot[:, 3:7], poses[:, 3:])], axis=1)


def assemble(task: ManipulationTask, robot: FloatArray, poses: FloatArray) -> FloatArray:
    """(steps, observation_dim) from robot (steps, 9) and the object's poses (steps, 7); signs as they come."""
    if task.position_only:
        return np.concatenate([robot, poses[:, :3]], axis=1)
    return np.concatenate([robot, poses, seen_from_gripper(task, robot, poses)], axis=1)


def continuous(task: ManipulationTask, observations: FloatArray, starts: npt.ArrayLike) -> FloatArray:
    """Observations (steps, observation_dim) with quaternions whose signs do not jump within episodes, see `starts`
    (episodes,): rows of their first steps."""
    result = np.array(observations)
    for column, first in first_rotations(task).items():
        result[:, column : column + 4] = quaternions.continuous(result[:, column : column + 4], starts, first)
    return result


def following(task: ManipulationTask, observation: FloatArray, previous: FloatArray | None) -> FloatArray:
    """One observation (observation_dim,) with the signs that continue `previous`; None: an episode's first."""
    result = np.array(observation)
    for column, first in first_rotations(task).items():
        part = slice(column, column + 4)
        result[part] = quaternions.nearest(result[part], first if previous is None else previous[part])
    return result
