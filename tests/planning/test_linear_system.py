"""A system simple enough to know the best action of: planning must find it, and single-mask control must not.

s' = s + a / 2,  reward -s'²,  a in (-1, 1): go to the origin at full speed and stop there.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from m3pc_ray.config import MaskConfig, ModelConfig, PlannerConfig, PretrainConfig
from m3pc_ray.model.distribution import SquashedGaussian
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.planning.inference import Queries, Window
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.planning.prompts import ReturnPrompt
from m3pc_ray.trajectories.statistics import Statistics
from tests.planning.slow_algorithm import slow_utility

LENGTH, CONTEXT, DISCOUNT = 8, 2, 0.99
STATES = [-2.0, -0.4, -0.1, 0.2, 0.35, 1.5]


def best_action(state: float) -> float:
    return float(np.clip(-2.0 * state, -1.0, 1.0))


class LinearSystem:
    """`Inference` that knows the system. Its policy is blind: zero mean, wide."""

    def __init__(self, model: TrajectoryModel) -> None:
        self.model = model

    def refresh(self) -> None: ...

    def propose(self, window: Window, steps: int) -> SquashedGaussian:
        mean = torch.zeros(window.states.shape[0], steps, 1)
        return SquashedGaussian(mean, torch.full_like(mean, -0.2))

    def predict(
        self, window: Window, candidates: Tensor, queries: Queries, imagined: Tensor | None = None
    ) -> dict[str, Tensor]:
        t = window.position
        current = self.model.denormalise("states", window.states[:, -1:])  # (B, 1, 1)
        later = current + 0.5 * candidates[..., 0].cumsum(-1)  # s_{t+1}..s_T, (B, N, T - t)
        if imagined is not None:
            torch.testing.assert_close(self.model.denormalise("states", imagined)[..., 0], later[..., :-1])
        states = torch.cat([current.expand(-1, later.shape[1], -1), later], dim=-1)  # s_t..s_T
        rewards = -later.square()  # r_{t+k} = -s_{t+k+1}²
        # Value of a_{t+n} and then standing still: g_{t+n} = -s_{t+n+1}² for each of ten steps.
        values = {"states": states, "rewards": rewards, "returns": 10.0 * rewards}
        answers = {}
        for name, steps in queries.items():
            assert steps.start >= t
            asked = values[name][..., steps.start - t : steps.stop - t].unsqueeze(-1)
            answers[name] = self.model.normalise(name, asked)
        return answers


class LinearCritic(nn.Module):
    """min(Q1, Q2)(s, a) = -10 (s + a / 2)²: the same value of an action and then standing still."""

    def q_min(self, observations: Tensor, actions: Tensor) -> Tensor:
        return -10.0 * (observations + 0.5 * actions).squeeze(-1).square()


def make_planner(**settings: Any) -> ForwardPlanner:
    statistics = Statistics(*(np.array([value], dtype=np.float32) for value in (0.3, 2.0, -5.0, 3.0, -1.0, 0.7)))
    model = TrajectoryModel(1, 1, ModelConfig(width=16, segment_length=LENGTH), statistics)
    prompt = ReturnPrompt(np.zeros(100, dtype=np.float32), 0.0, "sum", 100)
    config = PlannerConfig(
        **{
            "num_candidates": 3000,
            "context_length": CONTEXT,
            "horizon": 3,
            "utility_sharpness_return": 50.0,
            "utility_sharpness_critic": 50.0,
            "precision": "float32",
            **settings,
        }
    )
    return ForwardPlanner(model, LinearCritic(), config, DISCOUNT, prompt, inference=LinearSystem(model))


def context_at(states: list[float], timestep: int = CONTEXT) -> PlanningContext:
    batch, position = len(states), min(timestep, CONTEXT)
    context = PlanningContext(
        observations=np.zeros((batch, CONTEXT + 1, 1), dtype=np.float32),
        actions=np.zeros((batch, CONTEXT, 1), dtype=np.float32),
        timesteps=np.full(batch, timestep, dtype=np.int64),
        keys=np.stack([np.full(batch, 5), np.arange(batch), np.zeros(batch)], axis=1).astype(np.uint64),
    )
    context.observations[:, position, 0] = states
    return context


@pytest.mark.parametrize("timestep", [0, 1, 50])
@pytest.mark.parametrize("settings", [{}, {"rewards_from": "rp"}, {"current_state": "reconstructed"}, {"horizon": 1}])
@pytest.mark.parametrize("guide", ["return", "critic"])
def test_planning_finds_the_best_action(guide: Any, settings: dict[str, Any], timestep: int) -> None:
    planner = make_planner(**settings)
    blind = planner.plan(context_at(STATES, timestep), guide="none").actions[:, 0]
    np.testing.assert_allclose(blind, 0.0, atol=1e-6)
    planned = planner.plan(context_at(STATES, timestep), guide=guide).actions[:, 0]
    np.testing.assert_allclose(planned, [best_action(state) for state in STATES], atol=0.12)


@pytest.mark.parametrize("guide", ["return", "critic"])
def test_details_tell_what_the_system_would_do(guide: Any) -> None:
    """Every candidate is followed by hand; states, rewards, terminal values and utility must be those of its steps."""
    planner = make_planner(num_candidates=8)
    details = planner.plan(context_at(STATES), guide=guide, details=True).details
    assert details is not None
    assert details.predicted_states.shape == (len(STATES), 8, LENGTH - CONTEXT - 1, 1)
    for b, start in enumerate(STATES):
        for i in range(8):
            state, states, rewards = start, [], []
            for action in details.candidates[b, i, :, 0]:
                state = state + 0.5 * float(action)
                states.append(state)
                rewards.append(-(state**2))
            np.testing.assert_allclose(details.predicted_states[b, i, :, 0], states[:-1], atol=1e-4)
            np.testing.assert_allclose(details.predicted_rewards[b, i], rewards[:3], atol=1e-4)
            values = [10.0 * reward for reward in rewards[:3]]
            np.testing.assert_allclose(details.terminal_values[b, i], values, atol=1e-3)
            expected = slow_utility(rewards[:3], values, DISCOUNT, 0.6)
            assert details.utilities[b, i] == pytest.approx(expected, abs=1e-3)


def test_sharpness_decides_how_much_utility_matters() -> None:
    """xi = 0 averages the blind candidates; a large xi follows the best of them."""
    state = [1.5]
    still = make_planner(utility_sharpness_critic=0.0).plan(context_at(state), guide="critic")
    assert abs(still.actions[0, 0]) < 1e-4
    plain = {"average": "plain"}
    indifferent = make_planner(utility_sharpness_critic=0.0, **plain).plan(
        context_at(state), guide="critic", details=True
    )
    assert abs(indifferent.actions[0, 0]) < 0.1
    assert indifferent.details is not None
    assert indifferent.details.effective_sample_size[0] == pytest.approx(3000, rel=1e-3)
    sharp = make_planner(utility_sharpness_critic=1e6, **plain).plan(context_at(state), guide="critic", details=True)
    assert sharp.details is not None
    best = sharp.details.utilities[0].argmax()
    np.testing.assert_allclose(sharp.actions[0], sharp.details.candidates[0, best, 0], atol=1e-5)


def test_a_planner_that_samples_prefers_better_actions() -> None:
    planner = make_planner(num_candidates=200, utility_sharpness_critic=1.0)
    context = context_at([1.5] * 300)
    actions = planner.plan(context, guide="critic", sample=True).actions[:, 0]
    assert actions.mean() < -0.6
    assert np.unique(actions).size > 200, "different keys draw different candidates"
    again = planner.plan(context, guide="critic", sample=True).actions[:, 0]
    np.testing.assert_array_equal(actions, again)


def test_learnt_model_plans_better_than_it_imitates() -> None:
    """A small BTM trained on random actions in this system: what it plans with its own predictions must beat what it
    imitates, where imitation is as good as random."""
    from m3pc_ray.training.btm_trainer import BTMTrainer

    rng = np.random.default_rng(0)
    episodes, steps, limit = 400, 16, 16
    actions = rng.uniform(-0.95, 0.95, size=(episodes, steps, 1)).astype(np.float32)
    states = np.empty((episodes, steps + 1, 1), dtype=np.float32)
    states[:, 0] = rng.uniform(-2, 2, size=(episodes, 1))
    for step in range(steps):
        states[:, step + 1] = states[:, step] + 0.5 * actions[:, step]
    rewards = -np.square(states[:, 1:])
    returns = rewards[:, ::-1].cumsum(1)[:, ::-1].copy()
    parts = [values.reshape(-1) for values in (states[:, :-1], returns, rewards)]
    statistics = Statistics(*(np.array([f(part)], dtype=np.float32) for part in parts for f in (np.mean, np.std)))
    torch.manual_seed(0)
    config = ModelConfig(width=32, segment_length=4)
    model = TrajectoryModel(1, 1, config, statistics)
    trainer = BTMTrainer(
        model, PretrainConfig(optimizer="adamw", learning_rate=4e-3), MaskConfig(), torch.float32, seed=0
    )
    data = {"states": states[:, :-1], "returns": returns, "actions": actions, "rewards": rewards}
    for update in range(120):
        rows, starts = rng.integers(episodes, size=64), rng.integers(steps - 4 + 1, size=64)
        at = starts[:, None] + np.arange(4)
        tokens = {
            name: model.normalise(name, torch.from_numpy(values[rows[:, None], at])) for name, values in data.items()
        }
        trainer.update(tokens, None, learning_rate_factor=min(1.0, (120 - update) / 60))

    # The prompt asks for an ordinary return, so that imitation is no planning in disguise.
    prompt = ReturnPrompt(np.full(limit, np.median(returns), dtype=np.float32), 0.0, "sum", limit)
    settings = PlannerConfig(
        guide="return", num_candidates=256, context_length=1, horizon=3, utility_sharpness_return=3.0
    )
    planner = ForwardPlanner(model, None, settings, DISCOUNT, prompt)
    start = np.linspace(-1.5, 1.5, 40, dtype=np.float32)
    costs = {}
    for guide in ("none", "return"):
        state, cost = start.copy(), 0.0
        before, last_action = state, np.zeros(40, dtype=np.float32)
        for timestep in range(6):
            context = context_for(timestep, before, last_action, state)
            action = planner.plan(context, guide=guide).actions[:, 0]  # type: ignore[arg-type]
            before, last_action = state, action
            state = state + 0.5 * action
            cost += float(np.square(state).mean())
        costs[guide] = cost
    standing_still = 6 * float(np.square(start).mean())
    assert costs["return"] < 0.6 * costs["none"], costs
    assert costs["return"] < 0.5 * standing_still, (costs, standing_still)


def context_for(timestep: int, before: np.ndarray, action: np.ndarray, state: np.ndarray) -> PlanningContext:
    batch = len(state)
    observations = np.zeros((batch, 2, 1), dtype=np.float32)
    actions = np.zeros((batch, 1, 1), dtype=np.float32)
    if timestep == 0:
        observations[:, 0, 0] = state
    else:
        observations[:, :, 0] = np.stack([before, state], axis=1)
        actions[:, 0, 0] = action
    keys = np.stack([np.zeros(batch), np.arange(batch), np.full(batch, timestep)], axis=1).astype(np.uint64)
    return PlanningContext(observations, actions, np.full(batch, timestep, dtype=np.int64), keys)
