"""Environments: what can be made, what cannot and why, and stepping a group without surprises."""

from __future__ import annotations

import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from m3pc_ray.environments import EnvironmentGroup, make_environment, specification
from m3pc_ray.environments.simulator import restore_state, save_state
from m3pc_ray.errors import UserError


def test_hopper_specification_and_silence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spec = specification(make_environment("Hopper-v4"))
    assert (spec.environment_id, spec.observation_dim, spec.action_dim, spec.time_limit) == ("Hopper-v4", 11, 3, 1000)
    np.testing.assert_array_equal(spec.action_low, -np.ones(3))
    np.testing.assert_array_equal(spec.action_high, np.ones(3))


def test_construction_leaves_no_log_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_environment("HalfCheetah-v4").close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environment_id", "words"),
    [
        ("Hoper-v4", ["Hoper-v4", "Hopper-v4"]),
        ("hopper-v4", ["hopper-v4", "Hopper-v4"]),
        ("Hopper-v2", ["Hopper-v2", "Hopper-v4"]),
        ("no_such_package_here:Thing-v0", ["no_such_package_here", "install"]),
        ("CartPole-v1", ["action space", "Discrete"]),
        ("Blackjack-v1", ["observation space"]),
    ],
)
def test_impossible_environments_are_explained_in_one_line(environment_id: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        make_environment(environment_id)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_time_limit_is_needed_and_can_be_given() -> None:
    class Endless(gymnasium.Env):  # type: ignore[type-arg]
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
        action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,))

        def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
            return np.zeros(2), {}

        def step(self, action):  # type: ignore[no-untyped-def]
            return np.zeros(2), 0.0, False, False, {}

    gymnasium.register("M3PCEndless-v0", entry_point=Endless)
    try:
        with pytest.raises(UserError, match="data.time_limit"):
            make_environment("M3PCEndless-v0")
        with EnvironmentGroup("M3PCEndless-v0", 1, time_limit=3) as group:
            assert group.spec.time_limit == 3
            group.reset(0)
            ends = [group.step(np.zeros((1, 1))).truncated[0] for _ in range(3)]
        assert ends == [False, False, True]
    finally:
        del gymnasium.registry["M3PCEndless-v0"]


def test_group_steps_like_single_environments_and_never_resets_itself() -> None:
    rng = np.random.default_rng(0)
    singles = [make_environment("Hopper-v4") for _ in range(3)]
    with EnvironmentGroup("Hopper-v4", 3) as group:
        for row, single in enumerate(singles):
            expected, _ = single.reset(seed=40 + row)
            observation = group.reset(row, seed=40 + row)
            assert observation.dtype == np.float32
            np.testing.assert_array_equal(observation, expected.astype(np.float32))
        over = np.zeros(3, dtype=bool)
        for _ in range(200):
            rows = np.flatnonzero(~over)
            if len(rows) == 0:
                break
            actions = rng.uniform(-1, 1, (len(rows), 3)).astype(np.float32)
            transitions = group.step(actions, rows)
            for i, row in enumerate(rows):
                observation, reward, terminated, truncated, _ = singles[row].step(actions[i])
                np.testing.assert_array_equal(transitions.observations[i], observation.astype(np.float32))
                assert transitions.rewards[i] == np.float32(reward)
                assert (transitions.terminated[i], transitions.truncated[i]) == (terminated, truncated)
            over[rows] |= transitions.done
            np.testing.assert_array_equal(group.running, ~over)
        assert over.all(), "random actions make the hopper fall within 200 steps"
        with pytest.raises(UserError, match="reset it first"):
            group.step(np.zeros((1, 3)), [0])
        with pytest.raises(UserError, match=r"shape \(2, 3\)"):
            group.step(np.zeros((2, 3)), [0])


def test_a_restored_simulator_state_continues_exactly() -> None:
    environment, other = make_environment("Hopper-v4"), make_environment("Hopper-v4")
    environment.reset(seed=3)
    other.reset(seed=4)
    actions = np.random.default_rng(1).uniform(-0.3, 0.3, (25, 3))
    observation = np.zeros(11)
    for action in actions[:10]:
        observation, *_ = environment.step(action)
    state = save_state(environment)
    np.testing.assert_array_equal(restore_state(other, state), observation.astype(np.float32))
    for action in actions[10:]:
        expected, reward, *_ = environment.step(action)
        observed, other_reward, *_ = other.step(action)
        np.testing.assert_array_equal(observed, expected)
        assert other_reward == reward


def test_simulator_state_needs_mujoco() -> None:
    with pytest.raises(UserError, match="Pendulum-v1"):
        save_state(make_environment("Pendulum-v1"))
