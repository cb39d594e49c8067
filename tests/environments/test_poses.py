import gymnasium
import numpy as np
import pytest

from m3pc_ray.environments.make import make_environment
from m3pc_ray.environments.observed_state import ObservedState
from m3pc_ray.environments.poses import _travelled, current_positions, positions_of, seconds_per_step
from m3pc_ray.errors import UserError


def episode(environment, seed, steps=40):
    """Observations (steps + 1, observation_dim), float32 as data sets hold them, and the true positions."""
    observation, _ = environment.reset(seed=seed)
    environment.action_space.seed(seed)
    observations, positions = [observation], [current_positions(environment)]
    for _ in range(steps):
        observation, _, terminated, _, _ = environment.step(environment.action_space.sample())
        observations.append(observation)
        positions.append(current_positions(environment))
        if terminated:
            break
    return np.array(observations, dtype=np.float32), np.array(positions)


@pytest.mark.parametrize("environment_id", ["Hopper-v4", "Walker2d-v4", "HalfCheetah-v4", "Swimmer-v4"])
def test_positions_of_an_episode_are_those_of_the_simulator(environment_id):
    environment = make_environment(environment_id)
    observations, positions = episode(environment, seed=int(np.random.default_rng().integers(1000)))
    found = positions_of(environment, observations)
    hidden = 2 if environment_id == "Swimmer-v4" else 1
    np.testing.assert_allclose(found[:, hidden:], positions[:, hidden:], atol=1e-6)
    # The place along the track is summed up from velocities: it is right but for a small part of the way.
    way = np.abs(np.diff(positions[:, :hidden], axis=0)).sum()
    np.testing.assert_allclose(found[:, :hidden], positions[:, :hidden] - positions[0, :hidden], atol=0.05 * way)
    assert way > 0.01


def test_the_place_along_the_track_can_be_given():
    environment = make_environment("Hopper-v4")
    observations, positions = episode(environment, seed=3)
    np.testing.assert_allclose(positions_of(environment, observations, positions[:, 0]), positions, atol=1e-6)
    np.testing.assert_allclose(positions_of(environment, observations, positions[:, :1]), positions, atol=1e-6)
    assert (positions_of(environment, observations, 2.5)[:, 0] == 2.5).all()
    with pytest.raises(UserError, match=r"forward has shape \(3,\)"):
        positions_of(environment, observations, [0.0, 1.0, 2.0])


def test_free_positions_are_those_of_the_initial_pose_and_free_velocities_stand_still():
    environment = make_environment("Hopper-v4")
    waypoints = np.full((3, 11), np.nan)
    waypoints[:, 1] = [0.1, 0.2, 0.3]  # the torso's angle
    positions = positions_of(environment, waypoints)
    initial = environment.unwrapped.init_qpos
    np.testing.assert_array_equal(positions[:, 2], [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(positions[:, [0, 1, 3, 4, 5]], np.tile(initial[[0, 1, 3, 4, 5]], (3, 1)))


def test_no_observations_give_no_positions():
    assert positions_of(make_environment("Hopper-v4"), np.empty((0, 11))).shape == (0, 6)


def test_observations_of_another_size_are_said():
    with pytest.raises(UserError, match=r"\(2, 17\); Hopper-v4 needs \(steps, 11\)"):
        positions_of(make_environment("Hopper-v4"), np.zeros((2, 17)))
    with pytest.raises(UserError, match="Reacher-v4 is not its positions"):
        positions_of(make_environment("Reacher-v4"), np.zeros((2, 11)))


def test_a_rotation_left_out_is_said():
    environment = make_environment("Ant-v4")
    state = ObservedState(hidden_positions=4, velocities=14, speed_bound=np.inf)  # Ant's body: place, then quaternion
    with pytest.raises(UserError, match="Ant-v4 leaves out a rotation"):
        _travelled(environment, np.zeros((2, 25)), state)


def test_seconds_of_a_step():
    assert seconds_per_step(make_environment("Hopper-v4")) == pytest.approx(0.008)
    assert seconds_per_step(make_environment("HalfCheetah-v4")) == pytest.approx(0.05)
    with pytest.raises(UserError, match="Pendulum"):
        current_positions(make_environment("Pendulum-v1"))


def test_an_environment_without_a_step_length_is_said():
    with pytest.raises(UserError, match="CartPole-v1 does not say how long a step lasts"):
        seconds_per_step(gymnasium.make("CartPole-v1"))
