"""Drift is found where the environment is another one, and not where it is the same."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from m3pc_ray.diagnosis.drift import MOST_DRIFTED, MOST_OFF, check_drift, replay
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.resolve import load
from tests.tiny_run import random_hopper_episodes


@pytest.fixture(scope="module")
def bundled() -> Trajectories:
    return load("bundled/hopper")


@pytest.fixture(scope="module")
def random() -> Trajectories:
    return random_hopper_episodes(episodes=20)


def of_environment(trajectories: Trajectories, environment_id: str) -> Trajectories:
    return replace(trajectories, metadata=trajectories.metadata.replace(environment_id=environment_id))


def test_the_bundled_data_is_what_the_simulator_here_does(bundled):
    replayed = replay(bundled, 1000)
    assert np.nanmax(replayed.observation_errors) < 1e-4
    assert replayed.reward_errors.max() < 1e-5
    assert not replayed.other_ends.any()
    assert replayed.skipped + len(replayed.reward_errors) == 1000
    assert replayed.skipped > 0  # hoppers that fall reach the bound of 10
    (row,) = check_drift(bundled, 1000)
    assert (row.name, row.status) == ("drift bundled/hopper", "ok")


def test_another_version_of_the_task_is_found(bundled):
    (row,) = check_drift(of_environment(bundled, "Hopper-v5"))
    assert row.status == "failure"
    assert "1.0e+00 (largest)" in row.found  # the last step of a fall earns 1 less in that version
    assert "--data.environment" in row.advice
    assert "mujoco 4.0.0" in row.advice  # what the data says it was recorded with


@pytest.mark.parametrize(
    "settings", [{"frame_skip": 5}, {"ctrl_cost_weight": 0.1}, {"terminate_when_unhealthy": False}]
)
def test_another_frame_skip_cost_or_end_is_found(random, settings):
    from gymnasium.envs.mujoco.hopper_v4 import HopperEnv

    class Changed(HopperEnv):
        def __init__(self, render_mode=None):
            others = {name: value for name, value in settings.items() if name != "frame_skip"}
            super().__init__(render_mode=render_mode, **others)
            self.frame_skip = settings.get("frame_skip", self.frame_skip)

    gymnasium.register("ChangedHopper-v0", Changed, max_episode_steps=1000)
    try:
        (row,) = check_drift(of_environment(random, "ChangedHopper-v0"))
    finally:
        del gymnasium.registry["ChangedHopper-v0"]
    assert row.status == "failure"


@pytest.mark.parametrize(
    ("share", "status"), [(MOST_OFF / 2, "ok"), (MOST_OFF * 2, "warning"), (1.5 * MOST_DRIFTED, "failure")]
)
def test_a_few_transitions_that_differ_are_rounding_more_are_drift(bundled, share, status):
    rewards = bundled.rewards.copy()
    rng = np.random.default_rng(0)
    rewards[rng.choice(len(rewards), round(share * len(rewards)), replace=False)] += 0.01
    (row,) = check_drift(replace(bundled, rewards=rewards), transitions=20_000)
    assert row.status == status


def test_an_unknown_final_observation_is_not_compared(random):
    unknown = np.full_like(random.final_observations, np.nan)
    replayed = replay(replace(random, final_observations=unknown), 10**6)
    assert np.isnan(replayed.observation_errors).any()
    (row,) = check_drift(replace(random, final_observations=unknown))
    assert row.status == "ok"


def test_where_it_cannot_be_done_the_reason_stands_there(random):
    (row,) = check_drift(of_environment(random, "Pendulum-v1"))
    why = "Pendulum-v1 is none of Gymnasium's MuJoCo environments, whose state can be set"
    assert (row.status, row.found) == ("not checked", why)


def test_an_environment_that_depends_on_what_is_not_observed_is_not_checked(random):
    from gymnasium.envs.mujoco.hopper_v4 import HopperEnv

    class Uphill(HopperEnv):
        def __init__(self, render_mode=None):
            super().__init__(render_mode=render_mode)

        def step(self, action):
            observation, reward, *rest = super().step(action)
            return observation, reward - self.data.qpos[0], *rest

    gymnasium.register("UphillHopper-v0", Uphill, max_episode_steps=1000)
    try:
        (row,) = check_drift(of_environment(random, "UphillHopper-v0"))
    finally:
        del gymnasium.registry["UphillHopper-v0"]
    assert row.status == "not checked"
    assert "leaves out" in row.found


def test_only_steps_with_an_action_are_replayed(bundled):
    some = bundled.without_actions(np.arange(0, bundled.num_episodes, 2))
    some = replace(some, rewards_known=np.arange(some.num_steps) % 3 > 0)
    replayed = replay(some, 600)
    assert np.nanmax(replayed.observation_errors) < 1e-4
    assert np.nanmax(replayed.reward_errors) < 1e-5
    assert 0 < np.isnan(replayed.reward_errors).sum() < len(replayed.reward_errors)
    (row,) = check_drift(some, 600)
    assert row.status == "ok"
    (row,) = check_drift(bundled.without_actions(np.arange(bundled.num_episodes)))
    assert row.status == "not checked"
    assert "holds no actions" in row.found
