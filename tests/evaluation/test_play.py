"""Episodes played with somebody looking on: what evaluation plays, bit for bit, whoever looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3pc_ray.agent import Agent
from m3pc_ray.config import EvaluationConfig
from m3pc_ray.environments.make import EnvironmentGroup, make_environment
from m3pc_ray.environments.simulator import save_state
from m3pc_ray.evaluation.evaluate import run_episodes
from m3pc_ray.evaluation.play import contexts_of, play_episode
from tests.tiny_run import make_tiny_run

SEED = 5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("play") / "run").path


@pytest.mark.parametrize(("planner", "deterministic"), [("none", True), ("return", False), ("critic", True)])
def test_looking_on_changes_nothing(run: Path, planner: Any, deterministic: bool) -> None:
    agent = Agent.load(run, planner=planner)
    seen: list[int] = []
    with EnvironmentGroup("Hopper-v4", 1) as group:
        looked = play_episode(
            agent,
            group,
            SEED,
            deterministic=deterministic,
            before=lambda step, environment: seen.append(len(save_state(environment)) * 0 + step),
            after=lambda steps, total: None,
        )
        alone = play_episode(agent, group, SEED, deterministic=deterministic)
        evaluated = run_episodes(agent, group, EvaluationConfig(episodes=1, seed=SEED, deterministic=deterministic))
    assert seen == list(range(len(looked) + 1))
    np.testing.assert_array_equal(looked.observations, alone.observations)
    np.testing.assert_array_equal(looked.actions, alone.actions)
    assert looked.terminated
    assert not looked.truncated
    assert evaluated.lengths.tolist() == [len(looked)]
    assert evaluated.returns[0] == pytest.approx(np.sum(looked.rewards, dtype=np.float64), rel=1e-12)


def test_the_actions_lead_to_the_observations(run: Path) -> None:
    agent = Agent.load(run, planner="critic")
    with EnvironmentGroup("Hopper-v4", 1) as group:
        episode = play_episode(agent, group, SEED)
    environment = make_environment("Hopper-v4")
    observation, _ = environment.reset(seed=SEED)
    np.testing.assert_array_equal(episode.observations[0], np.float32(observation))
    for step, action in enumerate(episode.actions):
        observation, reward, terminated, _, _ = environment.step(action)
        np.testing.assert_array_equal(episode.observations[step + 1], np.float32(observation))
        assert episode.rewards[step] == np.float32(reward)
    assert terminated


def test_contexts_are_those_the_planner_had(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent.load(run, planner="return", seed=3)
    given = []
    plan = agent.planner.plan

    def spy(context: Any, **options: Any) -> Any:
        given.append(context)
        return plan(context, **options)

    monkeypatch.setattr(agent.planner, "plan", spy)
    with EnvironmentGroup("Hopper-v4", 1) as group:
        episode = play_episode(agent, group, SEED, after=lambda steps, _: steps == 6)
    assert len(episode) == 6
    assert not episode.terminated
    contexts = contexts_of(agent, episode)
    for name in ("observations", "actions", "timesteps", "keys"):
        together = np.concatenate([getattr(context, name) for context in given])
        np.testing.assert_array_equal(getattr(contexts, name), together, err_msg=name)
