"""Made-up episodes of the manipulation tasks: poses that move smoothly, with consistent relative entries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from m3pc_ray.environments.manipulation import observation
from m3pc_ray.environments.manipulation.tasks import TASKS
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from m3pc_ray.trajectories.validation import environment_facts, metadata_of

CAN, LIMITED, LIFT = "robosuite/PickPlaceCan-v1", "robosuite/PickPlaceCan-limited-v1", "robosuite/Lift-v1"


def turning(rng: np.random.Generator, steps: int, towards: Sequence[float]) -> np.ndarray:
    """(steps, 4) unit quaternions that turn slowly and at random, from near `towards` on."""
    walk = np.asarray(towards) + np.cumsum(rng.normal(scale=0.03, size=(steps, 4)), axis=0)
    return walk / np.linalg.norm(walk, axis=1, keepdims=True)


def make_manipulation(
    ends: Sequence[EpisodeEnd], environment_id: str = CAN, seed: int = 0, length: int = 30
) -> Trajectories:
    """Episodes of about `length` steps, or the time limit's; terminated ones are solved on their last step.

    Observations as ours are.
    """
    task, rng = TASKS[environment_id], np.random.default_rng(seed)
    lengths = rng.integers(length // 2 + 1, length + 1, len(ends))
    lengths[np.asarray(ends) == EpisodeEnd.TIME_LIMIT] = task.time_limit
    seen = []
    for steps in lengths + 1:
        robot = np.concatenate(
            [
                np.cumsum(rng.normal(scale=0.01, size=(steps, 3)), axis=0),
                turning(rng, steps, (1, 0, 0, 0)),
                rng.uniform(0, 0.04, (steps, 2)),
            ],
            axis=1,
        )
        place = 0.5 + np.cumsum(rng.normal(scale=0.01, size=(steps, 3)), axis=0)
        poses = np.concatenate([place, turning(rng, steps, (0, 0, 0, 1))], axis=1)
        made = observation.assemble(task, robot, poses).astype(np.float32)
        seen.append(observation.continuous(task, made, [0]))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rewards = np.zeros(starts[-1], np.float32)
    rewards[starts[1:] - 1] = np.asarray(ends) == EpisodeEnd.TERMINATED
    return Trajectories(
        observations=np.concatenate([values[:-1] for values in seen]),
        actions=rng.uniform(-1, 1, (starts[-1], 7)).astype(np.float32),
        rewards=rewards,
        episode_starts=starts,
        episode_ends=np.asarray(ends, np.int8),
        final_observations=np.stack([values[-1] for values in seen]),
        metadata=metadata_of(environment_facts(environment_id), "made-up"),
    )
