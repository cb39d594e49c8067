"""The benchmarks' pendulums: Pendulum-v1's task, made by id in any process, at the cost that is asked for."""

import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest

from m3pc_ray.benchmarks.pendulum import CHEAP, SLOW, Pendulum, random_episodes
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.trajectories.episodes import EpisodeEnd


def test_dynamics_and_costs_are_those_of_pendulum_v1():
    theirs, ours = gymnasium.make("Pendulum-v1").unwrapped, Pendulum()
    rng = np.random.default_rng(0)
    theirs.reset(seed=1)
    ours.reset(seed=1)
    theirs.state = np.array([2.5, 0.4])
    ours._angle, ours._speed = 2.5, 0.4
    for _ in range(150):
        action = rng.uniform(-2.5, 2.5, 1).astype(np.float32)
        observation, reward, *_ = ours.step(action)
        expected, expected_reward, *_ = theirs.step(action)
        np.testing.assert_allclose(observation, expected, atol=1e-4)
        assert reward == pytest.approx(float(expected_reward), abs=1e-4)


@pytest.mark.parametrize("environment_id, length", [(CHEAP, 200), (SLOW, 100)])
def test_a_data_set_of_whole_episodes(environment_id, length):
    data = random_episodes(environment_id, episodes=3)
    assert (data.num_episodes, data.num_steps) == (3, 3 * length)
    assert set(data.episode_ends) == {EpisodeEnd.TIME_LIMIT}
    np.testing.assert_allclose(np.hypot(data.observations[:, 0], data.observations[:, 1]), 1.0, atol=1e-6)
    assert (data.rewards < 0).all()
    assert data.metadata.environment_id == environment_id


def test_a_slow_step_sleeps_and_a_cheap_one_does_not():
    group = EnvironmentGroup(SLOW, 2)
    for row in range(2):
        group.reset(row, seed=row)
    started = time.monotonic()
    group.step(np.zeros((2, 1)))
    assert 0.04 <= time.monotonic() - started < 5.0


def test_another_process_can_make_it_by_its_id():
    code = f"import gymnasium; print(gymnasium.make({SLOW!r}).spec.max_episode_steps)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "100"
