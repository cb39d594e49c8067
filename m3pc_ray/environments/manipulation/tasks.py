"""The manipulation tasks by their Gymnasium ids: what is known of them without a simulator."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium

ACTION_DIM = 7
"""Displacement of the end effector (3), its rotation (3), gripper; each within [-1, 1]."""
CONTROL_FREQUENCY = 20
"""Actions a second, as in robomimic's data."""
SUCCESS_REWARD = 1.0
"""Of the step with which the task is solved and the episode ends; every other step earns 0."""
_TIME_LIMIT = 400
"""Steps: robomimic 0.3.0, `robomimic/__init__.py`, its evaluation horizon for Lift, Can and Square (500 for the
multi-human sets of these tasks)."""


@dataclass(frozen=True)
class ManipulationTask:
    """One task, by one Panda arm, with one kind of observation."""

    environment_id: str
    robosuite_name: str
    """Name in robosuite, and `env_name` in robomimic's files."""
    object_name: str
    """Of the object that the robot moves, in robosuite's model."""
    relative_rotation: bool = True
    """The observation holds the object's rotation relative to the end effector too."""
    position_only: bool = False
    """Of the object, the observation holds its absolute position and no more (the paper's Can-Lim)."""
    time_limit: int = _TIME_LIMIT

    @property
    def object_dim(self) -> int:
        """Entries of the observation that are about the object."""
        return 3 if self.position_only else 14 if self.relative_rotation else 10

    @property
    def observation_dim(self) -> int:
        """Position (3) and rotation (4) of the end effector, the gripper's two fingers, the object."""
        return 9 + self.object_dim


TASKS = {
    task.environment_id: task
    for task in (
        ManipulationTask("robosuite/Lift-v1", "Lift", "cube", relative_rotation=False),
        ManipulationTask("robosuite/PickPlaceCan-v1", "PickPlaceCan", "Can"),
        ManipulationTask("robosuite/PickPlaceCan-limited-v1", "PickPlaceCan", "Can", position_only=True),
        ManipulationTask("robosuite/NutAssemblySquare-v1", "NutAssemblySquare", "SquareNut"),
    )
}


def task_named(robosuite_name: str) -> ManipulationTask | None:
    """The task with the full observation that robosuite calls so; None where there is none."""
    found = (task for task in TASKS.values() if task.robosuite_name == robosuite_name and not task.position_only)
    return next(found, None)


def register() -> None:
    """Make the tasks known to Gymnasium; robosuite is imported only where one is made."""
    for task in TASKS.values():
        if task.environment_id not in gymnasium.registry:
            gymnasium.register(
                task.environment_id,
                entry_point="m3pc_ray.environments.manipulation.simulated_task:SimulatedTask",
                max_episode_steps=task.time_limit,
                kwargs={"task": task.environment_id},
            )
