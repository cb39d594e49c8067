"""Diagnostics: branches reproduce the episode they came from, and a planner that knows the truth is told so."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3pc_ray.agent import Agent
from m3pc_ray.environments import EnvironmentGroup
from m3pc_ray.environments.simulator import save_state
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.branches import VisitedStates, advance, run_branches, visit_states
from m3pc_ray.evaluation.diagnostics import (
    DiagnosticsConfig,
    diagnose_guide,
    diagnose_planners,
    rank_correlations,
    true_model_utilities,
)
from m3pc_ray.planning.context import ContextWindow
from tests.tiny_run import make_tiny_run

CONFIG = DiagnosticsConfig(states=4, candidates=100, rollout_steps=6)


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent.load(make_tiny_run(tmp_path / "run").path, planner="none")


@pytest.mark.parametrize("context_length", [0, 1, 3])
def test_advancing_a_context_equals_appending_to_a_window(context_length: int) -> None:
    rng = np.random.default_rng(0)
    window = ContextWindow(2, 4, 2, context_length)
    observations = rng.normal(size=(9, 2, 4)).astype(np.float32)
    actions = rng.normal(size=(9, 2, 2)).astype(np.float32)
    for row in range(2):
        window.reset(row, observations[0, row])
    context = window.context([[1, 2, 0], [1, 3, 0]])
    for step in range(1, 9):
        if step == 3:  # rows of different age
            window.reset(1, observations[step, 1])
            window.append(0, actions[step, 0], observations[step, 0])
            context = window.context([[1, 2, step], [1, 3, 0]])
            continue
        for row in range(2):
            window.append(row, actions[step, row], observations[step, row])
        context = advance(context, actions[step], observations[step])
        expected = window.context(context.keys)
        for name in ("observations", "actions", "timesteps"):
            np.testing.assert_array_equal(getattr(context, name), getattr(expected, name))
        assert context.keys[0].tolist() == [1, 2, step]


def test_a_branch_with_the_episodes_own_actions_is_the_episode(agent: Agent) -> None:
    rewards, observations, actions, contexts, states = [], [], [], [], []
    with EnvironmentGroup("Hopper-v4", 1) as group:
        observation, over = group.reset(0, seed=4), False
        while not over:
            states.append(save_state(group.environments[0]))
            action = agent.predict(observation, not actions)
            contexts.append(agent.context([0]))
            transitions = group.step(action[np.newaxis])
            observation, over = transitions.observations[0], bool(transitions.done[0])
            actions.append(action)
            rewards.append(float(transitions.rewards[0]))
            observations.append(observation)
    at = 2
    assert len(rewards) > at + 4
    visited = VisitedStates(contexts[at], [states[at]])
    branches = run_branches(agent, visited, np.array(actions[at : at + 3])[None, None], rollout_steps=500, discount=0.9)
    np.testing.assert_allclose(branches.states[0, 0], observations[at : at + 3], atol=1e-6)
    np.testing.assert_allclose(branches.rewards[0, 0], rewards[at : at + 3], atol=1e-6)
    expected = sum(0.9**n * reward for n, reward in enumerate(rewards[at:]))
    assert branches.returns[0, 0] == pytest.approx(expected, abs=1e-3)
    assert branches.terminated.all()


def test_a_planner_that_knows_the_truth_gets_full_marks(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    visited = visit_states(agent, CONFIG.states, seed=3)
    planner = agent.planner
    blind = planner.plan

    def omniscient(context: Any, *, guide: Any = None, sample: bool = False, details: bool = False) -> Any:
        plan = blind(context, guide=guide, sample=sample, details=details)
        if plan.details is None:
            return plan
        agent.guide = "none"
        candidates = plan.details.candidates[:, :, :4]
        real = run_branches(agent, visited, candidates, rollout_steps=CONFIG.rollout_steps, discount=planner.discount)
        predicted_states = plan.details.predicted_states.copy()
        predicted_states[:, :, :4] = real.states
        best = real.returns.argmax(axis=1)
        told = dataclasses.replace(
            plan.details,
            utilities=real.returns.astype(np.float32),
            probabilities=np.eye(real.returns.shape[1], dtype=np.float32)[best],
            predicted_states=predicted_states,
            predicted_rewards=real.rewards.astype(np.float32),
        )
        return dataclasses.replace(plan, actions=candidates[np.arange(len(best)), best, 0], details=told)

    ordinary = diagnose_guide(agent, "return", visited, CONFIG)
    monkeypatch.setattr(planner, "plan", omniscient)
    row = diagnose_guide(agent, "return", visited, CONFIG)
    assert row["rank_correlation"] == pytest.approx(1.0)
    assert row["rank_correlation_rewards"] == pytest.approx(1.0)
    assert row["gain_best_utility"] == pytest.approx(row["gain_possible"])
    assert row["gain_weighted"] == pytest.approx(row["gain_possible"])
    assert row["utility_bias"] == pytest.approx(0.0, abs=1e-5)
    assert row["rewards_error"] == pytest.approx(0.0, abs=1e-6)
    assert [row[f"states_error_{n}"] for n in range(1, 5)] == pytest.approx([0.0] * 4, abs=1e-6)
    assert ordinary["rank_correlation"] < 0.9, "random weights do not know the truth"
    assert ordinary["states_error_1"] > 0.01
    assert ordinary["gain_possible"] == pytest.approx(row["gain_possible"])


def test_rows_for_both_guides(agent: Agent) -> None:
    rows = diagnose_planners(agent, ["return", "critic"], dataclasses.replace(CONFIG, candidates=5))
    assert [(row["planner"], row["states"], row["candidates"]) for row in rows] == [("return", 4, 5), ("critic", 4, 5)]
    for row in rows:
        assert 1.0 <= row["effective_sample_size_min"] <= row["effective_sample_size"] <= 8.0
        assert row["gain_best_utility"] <= row["gain_possible"]
        assert row["rank_correlation_critic"] is not None
        assert row["rank_correlation_true_model"] is not None
        assert row["rank_correlation_ceiling"] > 0.5, "a hundredth of noise hardly changes what happens in a few steps"
        assert row["states_change_4"] > row["states_change_1"] > 0.0
    assert agent.guide == "none"
    with pytest.raises(UserError, match="considers no candidates"):
        diagnose_guide(agent, "none", visit_states(agent, 2, seed=0), CONFIG)


def test_utilities_of_the_true_model_by_hand(agent: Agent) -> None:
    visited = visit_states(agent, 3, seed=3)
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 4, 3, 3)).astype(np.float32)  # h = 3
    branches = run_branches(agent, visited, actions, rollout_steps=0, discount=0.99)
    found = true_model_utilities(agent, visited, actions, branches)
    assert found is not None
    critic = agent.planner.critic
    assert critic is not None
    weights = [0.1, 0.09, 0.81]  # (1 - lambda) lambda^n and lambda^2 at lambda 0.9: the critic has learnt dynamics
    for state in range(3):
        for branch in range(4):
            utility, earned, observation = 0.0, 0.0, visited.observations()[state]
            for n in range(3):
                value = 0.0
                if branches.alive[state, branch, n]:
                    with torch.no_grad():
                        value = critic.q_min(
                            torch.as_tensor(observation)[None], torch.as_tensor(actions[state, branch, n])[None]
                        ).item()
                utility += weights[n] * (earned + 0.99**n * value)
                earned += 0.99**n * branches.rewards[state, branch, n]
                observation = branches.states[state, branch, n]
            assert found[state, branch] == pytest.approx(utility, abs=1e-4)


def test_visited_states_are_of_the_seeded_episodes(agent: Agent) -> None:
    visited = visit_states(agent, 12, seed=3)
    again = visit_states(agent, 12, seed=3)
    assert len(visited) == len(visited.context) == 12
    for first, second in zip(visited.simulator_states, again.simulator_states, strict=True):
        np.testing.assert_array_equal(first, second)
    assert len(np.unique(visited.context.keys, axis=0)) == 12


def test_rank_correlation() -> None:
    first = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0]])
    second = np.array([[10.0, 20.0, 25.0, 99.0], [4.0, 3.0, 2.0, 1.0], [1.0, 3.0, 2.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
    # third row: ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4: covariance 4.5 / sqrt(4.5 * 5)
    np.testing.assert_allclose(rank_correlations(first, second), [1.0, -1.0, 4.5 / np.sqrt(22.5), np.nan])
