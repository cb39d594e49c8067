"""Looking ahead with the critic's own dynamics: against the slow decision, and which runs do so."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from m3pc_ray.config import PlannerConfig
from m3pc_ray.errors import UserError
from m3pc_ray.planning.planner import ForwardPlanner
from tests.planning.factory import TIME_LIMIT, fresh_seed, make_context, make_critic, make_model, make_prompt
from tests.planning.slow_algorithm import slow_utility
from tests.planning.slow_choice import SlowDecision

DISCOUNT, TIMESTEPS = 0.95, [0, 9, TIME_LIMIT - 1]


def make_planner(seed: int, **settings: Any) -> tuple[ForwardPlanner, Any, Any]:
    model = make_model(seed)
    critic = make_critic(seed, model, dynamics=True)
    critic.dynamics.network.output_std.fill_(0.3)
    config = PlannerConfig(**{"precision": "float32", "num_candidates": 5, **settings})
    return ForwardPlanner(model, critic, config, DISCOUNT, make_prompt(seed)), model, critic


class SlowRollOut(SlowDecision):
    """A decision that follows the critic's dynamics, one candidate and one step at a time."""

    @torch.no_grad()
    def follow(self, candidate: np.ndarray, steps: int) -> tuple[list[torch.Tensor], list[float]]:
        """Observations s_t..s_{t+steps} and rewards r_t..r_{t+steps-1}."""
        states, rewards = [torch.from_numpy(self.context.observations[0, self.t])], []
        for step in range(steps):
            reached, reward = self.critic.dynamics(states[-1], torch.from_numpy(candidate[step]).float())
            states.append(reached)
            rewards.append(float(reward))
        return states, rewards

    @torch.no_grad()
    def worth(self, candidate: np.ndarray) -> float:
        states, rewards = self.follow(candidate, self.horizon)
        values = []
        for n in range(self.horizon):
            action = torch.from_numpy(candidate[n]).float()
            members = self.critic.q_members(states[n][None], action[None])[:, 0].double().numpy()
            values.append(float(members.min() - self.config.pessimism * members.std()))
        given = self.config.td_lambda
        return slow_utility(rewards, values, self.discount, 0.9 if given is None else given)


@pytest.mark.parametrize("engine", ["plain", "fast"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"horizon": 0, "pessimism": 1.5}, {"horizon": 1}, {"refinement_steps": 1, "elite_fraction": 0.5}],
)
def test_decisions_equal_the_slow_ones(engine: Any, settings: dict[str, Any]) -> None:
    while True:
        seed = fresh_seed()
        planner, model, critic = make_planner(seed, engine=engine, **settings)
        context = make_context(seed, TIMESTEPS, context_length=3)
        slow = [
            SlowRollOut(model, critic, planner.config, DISCOUNT, planner.prompt, context.select([b]), "critic").run()
            for b in range(len(TIMESTEPS))
        ]
        if min(decision.gap for decision in slow) > 3e-3:  # or rounding decides who is among the elites
            break
    plan, short = (planner.plan(context, guide="critic", details=details) for details in (True, False))
    assert plan.details is not None
    for b, expected in enumerate(slow):
        message, steps = f"environment {b}, seed {seed}", expected.steps
        utilities = plan.details.utilities[b]
        np.testing.assert_allclose(utilities, expected.utilities, rtol=1e-3, atol=1e-2, err_msg=message)
        np.testing.assert_allclose(plan.actions[b], expected.plan_for(utilities)[0], atol=5e-4, err_msg=message)
        for n, candidate in enumerate(expected.candidates):
            states, rewards = expected.follow(candidate, steps)
            shown = plan.details.predicted_states[b, n]
            np.testing.assert_allclose(shown[: steps - 1], torch.stack(states[1:steps]), rtol=1e-3, atol=1e-3)
            given = plan.details.predicted_rewards[b, n, : expected.horizon]
            np.testing.assert_allclose(given, rewards[: expected.horizon], rtol=1e-3, atol=1e-3)
    # With details more is decoded, and rounding of the rest is not the same.
    np.testing.assert_allclose(short.actions, plan.actions, atol=5e-4)


def test_auto_takes_the_network_where_nothing_asks_for_the_mask() -> None:
    context = make_context(1, [9], context_length=3)

    def utilities(dynamics: bool = True, **settings: Any) -> np.ndarray:
        model = make_model(3)
        critic = make_critic(3, model, dynamics=dynamics)
        config = PlannerConfig(precision="float32", num_candidates=5, **settings)
        details = ForwardPlanner(model, critic, config, DISCOUNT, make_prompt(3)).plan(context, details=True).details
        assert details is not None
        return details.utilities

    network, mask = utilities(states_from="network"), utilities(states_from="fd")
    assert np.abs(network - mask).max() > 0.1
    np.testing.assert_array_equal(utilities(), network)
    np.testing.assert_array_equal(utilities(dynamics=False), mask)
    for asked in ({"rewards_from": "rp"}, {"current_state": "reconstructed"}):
        np.testing.assert_array_equal(utilities(**asked), utilities(states_from="fd", **asked))
    np.testing.assert_array_equal(utilities(guide="return"), utilities(guide="return", states_from="fd"))


def test_what_contradicts_the_network_is_refused() -> None:
    model = make_model(0)
    for settings, dynamics, named in (
        ({"rewards_from": "rp"}, True, "planner.rewards_from rp"),
        ({"current_state": "reconstructed"}, True, "planner.current_state reconstructed"),
        ({}, False, "has learnt no dynamics; pretrain with critic.dynamics true"),
    ):
        critic, config = make_critic(0, model, dynamics=dynamics), PlannerConfig(states_from="network", **settings)
        with pytest.raises(UserError, match=named):
            ForwardPlanner(model, critic, config, DISCOUNT, make_prompt(0))


def test_new_weights_reach_it() -> None:
    planner, model, critic = make_planner(5)
    context = make_context(2, [9], context_length=3)
    before = planner.plan(context).actions
    other = make_critic(6, model, dynamics=True)
    planner.load_weights(
        {name: tensor.numpy() for name, tensor in model.state_dict().items()},
        {name: tensor.numpy() for name, tensor in other.state_dict().items()},
    )
    expected = ForwardPlanner(model, other, replace(planner.config), DISCOUNT, planner.prompt).plan(context).actions
    np.testing.assert_array_equal(planner.plan(context).actions, expected)
    assert np.abs(before - expected).max() > 1e-4


def test_lambda_follows_what_looks_ahead_unless_it_is_given() -> None:
    model = make_model(0)
    planners = {}
    for given in (None, 0.3):
        for dynamics in (True, False):
            critic, config = make_critic(0, model, dynamics=dynamics), PlannerConfig(td_lambda=given)
            planners[given, dynamics] = ForwardPlanner(model, critic, config, DISCOUNT, make_prompt(0))
    assert [planners[None, dynamics].td_lambda("critic") for dynamics in (True, False)] == [0.9, 0.6]
    assert [planners[None, dynamics].td_lambda("return") for dynamics in (True, False)] == [0.6, 0.6]
    assert {
        planner.td_lambda(guide) for (given, _), planner in planners.items() if given for guide in ("return", "critic")
    } == {0.3}
