"""Signs of quaternions, and rotations as seen from turned frames, against plain computations."""

import numpy as np
import pytest

from m3pc_ray.environments.manipulation import observation, quaternions
from m3pc_ray.environments.manipulation.tasks import TASKS


def random_rotations(rng: np.random.Generator, count: int) -> np.ndarray:
    values = rng.normal(size=(count, 4))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def matrix(quaternion: np.ndarray) -> np.ndarray:
    """(3, 3) rotation matrix of (x, y, z, w), as in any textbook."""
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@pytest.mark.parametrize("seed", range(5))
def test_continuous_is_nearest_step_by_step(seed):
    rng = np.random.default_rng(seed)
    values = random_rotations(rng, 200)
    values[rng.integers(0, 200, 30)] = np.eye(4)[rng.integers(0, 4, 30)]  # many exactly halfway from one another
    starts = np.concatenate([[0], np.sort(rng.choice(np.arange(1, 200), 6, replace=False))])
    first = random_rotations(rng, 1)[0]
    result = quaternions.continuous(values, starts, first)
    previous = first
    for row, value in enumerate(values):
        previous = quaternions.nearest(value, first if row in starts else previous)
        np.testing.assert_array_equal(result[row], previous)


@pytest.mark.parametrize("seed", range(5))
def test_the_sign_that_came_does_not_matter_and_rotations_stay(seed):
    rng = np.random.default_rng(seed)
    values = random_rotations(rng, 100).astype(np.float32)
    values[40:43] = np.eye(4, dtype=np.float32)[[0, 1, 3]]
    flipped = values * rng.choice([-1.0, 1.0], (100, 1)).astype(np.float32)
    first = (1.0, 0.0, 0.0, 0.0)
    result = quaternions.continuous(values, [0, 50], first)
    np.testing.assert_array_equal(quaternions.continuous(flipped, [0, 50], first), result)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(np.abs(result), np.abs(values))
    dots = np.sum(result[1:] * result[:-1], axis=1)
    assert (np.delete(dots, 49) >= 0).all()
    assert result[0, 0] >= 0
    assert result[50, 0] >= 0


def test_an_unknown_last_row_disturbs_nobody():
    values = random_rotations(np.random.default_rng(0), 20)
    values[9] = np.nan
    first = (0.0, 0.0, 0.0, 1.0)
    result = quaternions.continuous(values, [0, 10], first)
    np.testing.assert_array_equal(result[:9], quaternions.continuous(values[:9], [0], first))
    np.testing.assert_array_equal(result[10:], quaternions.continuous(values[10:], [0], first))


@pytest.mark.parametrize("seed", range(3))
def test_relative_poses_are_those_of_rotation_matrices(seed):
    rng = np.random.default_rng(seed)
    frames, others, vectors = random_rotations(rng, 20), random_rotations(rng, 20), rng.normal(size=(20, 3))
    back, seen = quaternions.rotate_back(frames, vectors), quaternions.relative(frames, others)
    for row in range(20):
        np.testing.assert_allclose(back[row], matrix(frames[row]).T @ vectors[row], atol=1e-12)
        np.testing.assert_allclose(matrix(seen[row]), matrix(frames[row]).T @ matrix(others[row]), atol=1e-12)


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.environment_id)
def test_observations_one_by_one_are_those_of_whole_episodes(task):
    rng = np.random.default_rng(1)
    robot = np.concatenate([rng.normal(size=(50, 3)), random_rotations(rng, 50), rng.normal(size=(50, 2))], axis=1)
    poses = np.concatenate([rng.normal(size=(50, 3)), random_rotations(rng, 50)], axis=1)
    whole = observation.assemble(task, robot, poses)
    assert whole.shape == (50, task.observation_dim)
    signed = observation.continuous(task, whole, [0, 20])
    previous = None
    for row in range(50):
        previous = observation.following(task, whole[row], None if row == 20 else previous)
        np.testing.assert_array_equal(previous, signed[row])
