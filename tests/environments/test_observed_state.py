import math

import numpy as np
import pytest

from m3pc_ray.environments.make import make_environment
from m3pc_ray.environments.observed_state import find_observed_state
from m3pc_ray.errors import UserError


@pytest.mark.parametrize(
    ("environment_id", "hidden", "velocities", "bound"),
    [
        ("Hopper-v4", 1, 6, 10.0),
        ("Walker2d-v4", 1, 9, 10.0),
        ("HalfCheetah-v4", 1, 9, math.inf),
        ("InvertedPendulum-v4", 0, 2, math.inf),
        ("Ant-v4", 2, 14, math.inf),
    ],
)
def test_how_observations_are_made_is_found_out(environment_id, hidden, velocities, bound):
    state = find_observed_state(make_environment(environment_id))
    assert (state.hidden_positions, state.velocities, state.speed_bound) == (hidden, velocities, bound)


@pytest.mark.parametrize("environment_id", ["Humanoid-v4", "InvertedDoublePendulum-v4", "Reacher-v4"])
def test_an_observation_that_is_not_the_state_is_said(environment_id):
    with pytest.raises(UserError, match=f"observation of {environment_id} is not its positions"):
        find_observed_state(make_environment(environment_id))


def test_another_simulator_is_said():
    with pytest.raises(UserError, match="Pendulum-v1 is none of Gymnasium's MuJoCo environments"):
        find_observed_state(make_environment("Pendulum-v1"))


def test_a_state_that_is_entered_is_observed():
    environment = make_environment("Hopper-v4")
    state = find_observed_state(environment)
    observation, _ = environment.reset(seed=3)
    state.enter(environment, observation + 0.01, hidden=2.0)
    np.testing.assert_allclose(environment.unwrapped._get_obs(), observation + 0.01)
    assert environment.unwrapped.data.qpos[0] == 2.0


def test_velocities_at_the_bound_make_a_state_incomplete():
    state = find_observed_state(make_environment("Hopper-v4"))
    observations = np.zeros((3, 11), np.float32)
    observations[1, 6] = -10.0
    observations[2, 3] = 10.0  # a position may be anything
    assert state.is_complete(observations).tolist() == [True, False, True]
