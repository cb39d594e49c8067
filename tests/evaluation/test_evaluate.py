"""Evaluation: same seeds for every planner, finished rows drop out, the same numbers again, what the rows hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from m3pc_ray.agent import Agent
from m3pc_ray.config import EvaluationConfig
from m3pc_ray.environments import EnvironmentGroup
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.evaluate import evaluate_planners, run_episodes
from m3pc_ray.evaluation.statistics import bootstrap_interval, describe
from m3pc_ray.planning.plan import Plan
from tests.tiny_run import make_tiny_run

TIMING = ("seconds", "decisions_per_s", "planning_cpu_ms")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("evaluation") / "run").path


class LinearPlanner:
    """Acts by a fixed function of the current observation, the same for every guide; records who asked."""

    def __init__(self) -> None:
        self.config = SimpleNamespace(
            guide="none", context_length=2, num_candidates=1, horizon=1,
            utility_sharpness_return=1.0, utility_sharpness_critic=1.0,
            utility_unit_return=1.0, utility_unit_critic=1.0,
        )  # fmt: skip
        self.critic = object()
        self.batches: list[np.ndarray] = []
        self.keys: list[np.ndarray] = []
        weights = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
        self.act = lambda observations: np.tanh((observations[..., None] * weights).sum(-2))

    def td_lambda(self, _guide: str) -> float:
        return 0.0

    def plan(self, context: Any, **_options: Any) -> Plan:
        self.keys.append(context.keys)
        current = context.observations[np.arange(len(context)), context.positions]
        self.batches.append(current)
        return Plan(self.act(current))


def linear_agent() -> Agent:
    return Agent(
        LinearPlanner(),  # type: ignore[arg-type]
        observation_dim=11,
        action_low=-np.ones(3),
        action_high=np.ones(3),
        environment_id="Hopper-v4",
    )


def returns_by_hand(seeds: range) -> list[tuple[float, int]]:
    results = []
    act = LinearPlanner().act
    with EnvironmentGroup("Hopper-v4", 1) as group:
        for seed in seeds:
            observation, total, length, over = group.reset(0, seed=seed), 0.0, 0, False
            while not over:
                transitions = group.step(act(observation)[np.newaxis])
                observation, over = transitions.observations[0], bool(transitions.done[0])
                total, length = total + float(transitions.rewards[0]), length + 1
            results.append((total, length))
    return results


@pytest.mark.parametrize("parallel", [1, 3, 7])
def test_episodes_equal_a_plain_loop_over_the_seeds(parallel: int) -> None:
    agent = linear_agent()
    config = EvaluationConfig(episodes=7, seed=50, parallel_environments=parallel)
    with EnvironmentGroup("Hopper-v4", parallel) as group:
        episodes = run_episodes(agent, group, config)
    expected = returns_by_hand(range(50, 57))
    np.testing.assert_allclose(episodes.returns, [total for total, _ in expected], rtol=1e-6)
    assert episodes.lengths.tolist() == [length for _, length in expected]
    assert len(set(episodes.lengths.tolist())) > 1, "episodes of different length are the point of this test"


def test_finished_rows_drop_out_and_each_episode_has_its_stream() -> None:
    agent = linear_agent()
    config = EvaluationConfig(episodes=6, seed=50, parallel_environments=4)
    with EnvironmentGroup("Hopper-v4", 4) as group:
        episodes = run_episodes(agent, group, config)
    planner: Any = agent.planner
    sizes = [len(batch) for batch in planner.batches]
    assert sum(sizes) == episodes.lengths.sum(), "no decision for an environment whose episode is over"
    assert sizes[0] == 4
    assert sizes[-1] < 4
    assert all(later <= earlier for earlier, later in zip(sizes, sizes[1:], strict=False))
    keys = np.concatenate(planner.keys)
    for episode, length in enumerate(episodes.lengths):
        steps = keys[keys[:, 1] == 50 + episode, 2]
        assert steps.tolist() == list(range(length))


def test_every_planner_plays_the_same_episodes() -> None:
    agent = linear_agent()
    rows = evaluate_planners(agent, ["critic", "none", "return"], EvaluationConfig(episodes=4, parallel_environments=2))
    assert [row["planner"] for row in rows] == ["critic", "none", "return"]
    for name in ("return_mean", "return_min", "return_max", "score_mean", "length_mean", "decisions"):
        assert rows[0][name] == rows[1][name] == rows[2][name]
    assert agent.guide == "none", "the agent's own planner is restored"


def test_rows_are_reproducible_and_plain(run: Path) -> None:
    config = EvaluationConfig(episodes=3, parallel_environments=2, deterministic=False)

    def play() -> list[dict[str, Any]]:
        rows = evaluate_planners(Agent.load(run), ["none", "return", "critic"], config)
        return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]

    rows = play()
    assert rows == play()
    assert rows != [
        {**row}
        for row in evaluate_planners(Agent.load(run), ["none", "return", "critic"], dataclasses.replace(config, seed=7))
    ]
    for row in rows:
        lists = {name: row.pop(name) for name in ("returns", "scores")}
        assert all(isinstance(value, int | float | str | None) for value in row.values())
        for kind in ("return", "score"):
            assert len(lists[f"{kind}s"]) == 3
            assert np.mean(lists[f"{kind}s"]) == pytest.approx(row[f"{kind}_mean"])
            assert max(lists[f"{kind}s"]) == pytest.approx(row[f"{kind}_max"])
        expected = 100 * (row["return_mean"] + 20.272305) / (3234.3 + 20.272305)
        assert row["score_mean"] == pytest.approx(expected)
        assert row["return_min"] <= row["return_low"] <= row["return_mean"] <= row["return_high"] <= row["return_max"]
    assert "num_candidates" not in rows[0]
    assert rows[2]["num_candidates"] == 8


def test_scores_are_none_without_references() -> None:
    planner: Any = LinearPlanner()
    planner.act = lambda observations: np.zeros((len(observations), 1), np.float32)
    agent = Agent(
        planner,
        observation_dim=4,
        action_low=np.full(1, -3.0),
        action_high=np.full(1, 3.0),
        environment_id="InvertedPendulum-v4",
    )
    (row,) = evaluate_planners(agent, ["none"], EvaluationConfig(episodes=2))
    assert row["score_mean"] is None
    assert row["score_low"] is None
    assert row["return_mean"] > 0


def test_mistakes_are_explained(tmp_path: Path) -> None:
    agent = Agent.load(make_tiny_run(tmp_path / "run", critic_updates=0).path, planner="none")
    with pytest.raises(UserError, match="critic"):
        evaluate_planners(agent, ["none", "critic"], EvaluationConfig(episodes=1))
    with pytest.raises(UserError, match="at least one"):
        evaluate_planners(agent, [], EvaluationConfig(episodes=1))
    agent.environment_id = "Walker2d-v4"
    with pytest.raises(UserError, match="Walker2d-v4 has observation size 17; the run was trained on 11"):
        evaluate_planners(agent, ["none"], EvaluationConfig(episodes=1))


def test_summaries() -> None:
    numbers = describe("x", [1.0, 2.0, 3.0, 6.0])
    assert (numbers["x_mean"], numbers["x_min"], numbers["x_max"]) == (3.0, 1.0, 6.0)
    assert numbers["x_std"] == pytest.approx(np.sqrt(14 / 3))
    assert numbers["x_sem"] == pytest.approx(np.sqrt(14 / 3) / 2)
    assert describe("x", [4.0]) == dict.fromkeys([f"x_{n}" for n in ("mean", "min", "max", "low", "high")], 4.0) | {
        "x_sem": 0.0,
        "x_std": 0.0,
    }
    sample = np.random.default_rng(0).normal(10.0, 2.0, 400)
    low, high = bootstrap_interval(sample)
    half = 1.96 * sample.std() / 20
    assert low == pytest.approx(sample.mean() - half, abs=0.03)
    assert high == pytest.approx(sample.mean() + half, abs=0.03)
