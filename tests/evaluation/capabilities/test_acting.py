"""Roles that act: the cloning mask sees no return, asked returns reach the model as asked."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from m3pc_ray.agent import Agent
from m3pc_ray.config import EvaluationConfig
from m3pc_ray.evaluation.capabilities.acting import (
    asked_returns,
    asking_agent,
    cloning_agent,
    even_prompt,
    known_returns,
    play,
    sweep_rows,
)
from m3pc_ray.evaluation.evaluate import evaluate_planners
from m3pc_ray.model.masks import behaviour_cloning, return_conditioned
from m3pc_ray.training.assemble import Models, load_models
from m3pc_ray.trajectories.episodes import EpisodeEnd
from m3pc_ray.trajectories.returns import to_sum
from tests.tiny_run import make_tiny_run, random_hopper_episodes

CONFIG = EvaluationConfig(episodes=3, seed=5, parallel_environments=2)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return load_models(make_tiny_run(tmp_path_factory.mktemp("acting") / "run"))


def watched(models: Models, agent: Agent, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random observations (steps, obs) shown to an agent as one episode, and its actions (steps, act)."""
    rng = np.random.default_rng(seed)
    mean, std = models.statistics.states_mean, models.statistics.states_std
    observations = (mean + std * rng.normal(size=(steps, len(mean)))).astype(np.float32)
    agent.reset()
    actions = [agent.plan(observation[None], step == 0).actions[0] for step, observation in enumerate(observations)]
    return observations, np.stack(actions)


def test_the_cloning_agent_is_the_model_behind_its_mask(models: Models) -> None:
    observations, actions = watched(models, cloning_agent(models), 6, 0)
    for now in range(6):
        t = min(now, 3)
        first = now - t
        states = torch.zeros(1, 8, observations.shape[1])
        taken = torch.zeros(1, 8, actions.shape[1])
        states[0, : t + 1] = models.model.normalise("states", torch.as_tensor(observations[first : now + 1]))
        taken[0, :t] = torch.as_tensor(actions[first:now])
        tokens = {"states": states, "actions": taken, "returns": torch.zeros(1, 8, 1), "rewards": torch.zeros(1, 8, 1)}
        with torch.no_grad():
            expected = models.model(tokens, behaviour_cloning(8, t)).actions.mode()[0, t]
        np.testing.assert_allclose(actions[now], expected.numpy(), atol=1e-5)


def test_the_cloning_agent_cannot_be_asked_for_a_return(models: Models) -> None:
    other = dataclasses.replace(models, prompt=even_prompt(-500.0, models.prompt.scale, models.prompt.time_limit))
    same = [watched(part, cloning_agent(part), 5, 1)[1] for part in (models, other)]
    np.testing.assert_array_equal(*same)
    different = [watched(part, Agent.from_models(part, "none"), 5, 1)[1] for part in (models, other)]
    assert (different[0] != different[1]).any()
    with pytest.raises(ValueError, match="1 action"):
        cloning_agent(models).planner.plan(_shown(models).context(), guide="return")


def _shown(models: Models) -> Agent:
    agent = Agent.from_models(models, "none")
    watched(models, agent, 1, 0)
    return agent


@pytest.mark.parametrize("asked", [-100.0, 300.0, 1e6])
def test_asked_returns_reach_the_model_without_a_cap(models: Models, asked: float) -> None:
    """An even rate of return is the same token at every step of the average scale."""
    observations, actions = watched(models, asking_agent(models, asked), 5, 2)
    states = models.model.normalise("states", torch.as_tensor(observations[1:5]))
    tokens = {
        "states": torch.zeros(1, 8, states.shape[1]),
        "actions": torch.zeros(1, 8, actions.shape[1]),
        "returns": models.model.normalise("returns", torch.full((1, 8, 1), asked / models.time_limit)),
        "rewards": torch.zeros(1, 8, 1),
    }
    tokens["states"][0, :4] = states
    tokens["actions"][0, :3] = torch.as_tensor(actions[1:4])
    with torch.no_grad():
        expected = models.model(tokens, return_conditioned(8, 3)).actions.mode()[0, 3]
    np.testing.assert_allclose(actions[4], expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("scale", ["average", "sum"])
def test_an_even_prompt_falls_evenly_in_both_scales(scale: str) -> None:
    prompt = even_prompt(100.0, scale, 50)
    tokens = prompt.values(np.array([10]), np.array([3]), 8, "best_at_step", 1.0)
    sums = to_sum(tokens[0], np.arange(7, 15), scale, 50)
    np.testing.assert_allclose(sums, [100 * (50 - step) / 50 for step in range(7, 15)], rtol=1e-5)


def test_asked_returns_span_the_data_and_more() -> None:
    assert asked_returns(np.array([10.0, 30.0, 20.0]), 3) == [10.0, 22.0, 34.0]


def test_sweep_rows_and_their_summary(models: Models) -> None:
    data = random_hopper_episodes(5)
    cut = dataclasses.replace(data, episode_ends=np.array([EpisodeEnd.CUT] + [EpisodeEnd.TERMINATED] * 4, np.int8))
    assert known_returns(cut).tolist() == data.returns[1:].tolist()
    lacking = dataclasses.replace(cut, rewards_known=np.arange(data.num_steps) != data.episode_starts[2])
    assert known_returns(lacking).tolist() == data.returns[[1, 3, 4]].tolist()
    asked = [0.0, 5.0, 1e4]
    *rows, summary = sweep_rows(models, data, asked, CONFIG, lambda _index: None)
    for row, wanted in zip(rows, asked, strict=True):
        returns = play(models, asking_agent(models, wanted), CONFIG)
        assert row["achieved_returns"] == returns.tolist()
        assert row["achieved_return"] == pytest.approx(returns.mean())
        assert row["error"] == pytest.approx(np.abs(returns - wanted).mean())
    assert summary["error"] == pytest.approx((rows[0]["error"] + rows[1]["error"]) / 2), "inside the data's range only"
    assert summary["data_return_max"] == pytest.approx(data.returns.max())


def test_playing_is_what_evaluate_does(models: Models) -> None:
    (row,) = evaluate_planners(Agent.from_models(models, "none"), ["none"], CONFIG)
    assert play(models, Agent.from_models(models, "none"), CONFIG).tolist() == row["returns"]
