"""Several asked returns, earlier plans, refinement and pessimism: against the slow decision, and what they promise."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from m3pc_ray.config import PlannerConfig
from m3pc_ray.errors import UserError
from m3pc_ray.model.distribution import SquashedGaussian
from m3pc_ray.planning.context import ContextWindow, PlanningContext, concatenate_contexts
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.planning.population import Population, fitted, rest_of_previous
from tests.planning.factory import ACTION_DIM, fresh_seed, make_context, make_critic, make_model, make_prompt
from tests.planning.slow_choice import SlowDecision
from tests.planning.test_linear_system import STATES, best_action, context_at
from tests.planning.test_linear_system import make_planner as make_linear_planner

DISCOUNT, TIMESTEPS = 0.95, [0, 9]
ALL_OF_IT = {
    "refinement_steps": 2,
    "elite_fraction": 0.4,
    "warm_start": True,
    "asked_returns": "1,0.5",
    "ensemble_value": "mean",
    "pessimism": 0.7,
}


def make_planner(seed: int, **settings: Any) -> tuple[ForwardPlanner, Any, Any]:
    model = make_model(seed)
    critic = make_critic(seed, model, ensemble_size=4, layer_norm=True)
    given = {"precision": "float32", "num_candidates": 4, "utility_sharpness_return": 0.3, "utility_unit_critic": 2.5}
    config = PlannerConfig(**{**given, **settings})
    return ForwardPlanner(model, critic, config, DISCOUNT, make_prompt(seed)), model, critic


def with_previous(context: PlanningContext, seed: int) -> PlanningContext:
    """Earlier plans of different lengths, of the first environment none."""
    previous = np.tanh(np.random.default_rng(seed).normal(size=(len(context), 7, ACTION_DIM))).astype(np.float32)
    previous[0] = np.nan
    for row, timestep in enumerate(context.timesteps[1:], start=1):
        previous[row, 8 - min(int(timestep), 4) :] = np.nan
    return replace(context, previous=previous)


@pytest.mark.parametrize("engine", ["plain", "fast"])
@pytest.mark.parametrize("guide", ["return", "critic"])
@pytest.mark.parametrize(
    "settings",
    [
        {"pessimism": 1.3},
        {"ensemble_value": "mean"},
        {"refinement_steps": 1, "elite_fraction": 0.5},
        {"refinement_steps": 2, "refinement_noise": 0.4, "average": "plain"},
        {"refinement_steps": 1, "average": "around_mean"},
        {"warm_start": True},
        {"warm_start": True, "average": "around_mean"},
        {"asked_returns": "0.3, 1, 1.5"},
        {"asked_returns": "0.3,1", "average": "around_mean"},
        ALL_OF_IT,
    ],
)
def test_decisions_equal_the_slow_ones(engine: Any, guide: Any, settings: dict[str, Any]) -> None:
    while True:
        seed = fresh_seed()
        planner, model, critic = make_planner(seed, engine=engine, **settings)
        context = with_previous(make_context(seed, TIMESTEPS, context_length=3), seed)
        slow = [
            SlowDecision(model, critic, planner.config, DISCOUNT, planner.prompt, context.select([b]), guide).run()
            for b in range(len(TIMESTEPS))
        ]
        if min(decision.gap for decision in slow) > 3e-3:  # or rounding decides who is among the elites
            break
    plan = planner.plan(context, guide=guide, details=True)
    assert plan.details is not None
    assert (plan.rest is not None) == planner.config.warm_start
    for b, expected in enumerate(slow):
        message, steps = f"environment {b}, seed {seed}", expected.steps
        candidates = plan.details.candidates[b, :, :steps]
        np.testing.assert_allclose(candidates, np.array(expected.candidates), atol=2e-4, err_msg=message)
        utilities = plan.details.utilities[b]
        np.testing.assert_allclose(utilities, expected.utilities, rtol=1e-3, atol=2e-2, err_msg=message)
        # Of equal utilities: softmax makes more of their rounding than of anything else.
        chosen = expected.plan_for(utilities)
        np.testing.assert_allclose(plan.actions[b], chosen[0], atol=5e-4, err_msg=message)
        if plan.rest is not None:
            np.testing.assert_allclose(plan.rest[b, : steps - 1], chosen[1:], atol=5e-4, err_msg=message)
            assert np.isnan(plan.rest[b, steps - 1 :]).all()


@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("guide", ["none", "return", "critic"])
def test_with_all_of_it_a_decision_depends_on_its_request_alone(guide: Any, sample: bool) -> None:
    planner, _, _ = make_planner(0, num_candidates=9, **ALL_OF_IT)
    context = with_previous(make_context(1, [0, 7, 1, 12, 3], context_length=3), 2)
    together = planner.plan(context, guide=guide, sample=sample)
    planner.plan(context.select([2, 2, 4]), guide=guide, sample=sample)  # nothing of which is remembered
    for rows in ([0], [3], [4, 1], [2, 3, 0]):
        apart = planner.plan(context.select(rows), guide=guide, sample=sample)
        np.testing.assert_allclose(apart.actions, together.actions[rows], atol=1e-3)
        if guide != "none":
            np.testing.assert_allclose(apart.rest, together.rest[rows], atol=1e-3)
    detailed = planner.plan(context, guide=guide, sample=sample, details=True, record=True)
    np.testing.assert_allclose(detailed.actions, together.actions, atol=1e-3)
    if sample and detailed.details is not None:
        for row, chosen in enumerate(detailed.record.chosen):
            own = detailed.details.candidates[row, chosen]
            np.testing.assert_array_equal(detailed.actions[row], own[0])
            np.testing.assert_array_equal(detailed.rest[row, : len(own) - 1], own[1:8])


def test_two_qs_minimum_is_their_mean_less_one_deviation() -> None:
    seed = fresh_seed()
    model = make_model(seed)
    critic = make_critic(seed, model)
    context = make_context(seed, [9, 2], context_length=3)

    def utilities(**settings: Any) -> np.ndarray:
        config = PlannerConfig(precision="float32", num_candidates=6, **settings)
        details = ForwardPlanner(model, critic, config, DISCOUNT, make_prompt(seed)).plan(context, details=True).details
        assert details is not None
        return details.utilities

    least = utilities()
    np.testing.assert_allclose(utilities(ensemble_value="mean", pessimism=1.0), least, rtol=1e-4, atol=1e-3)
    assert (utilities(pessimism=2.0) < least).all()
    assert (utilities(pessimism=-1.0) > least).all()


def test_one_share_of_all_is_the_plain_draw() -> None:
    seed = fresh_seed()
    context = make_context(seed, [9, 0], context_length=3)
    plain, one = (make_planner(seed, asked_returns=asked)[0].plan(context, details=True) for asked in ("", "1"))
    np.testing.assert_allclose(one.details.candidates, plain.details.candidates, atol=1e-6)
    np.testing.assert_allclose(one.actions, plain.actions, atol=1e-5)


def test_refining_finds_what_few_candidates_miss() -> None:
    """Eight blind candidates seldom hold the best action; three refinements around the best two come near it."""
    expected = [best_action(state) for state in STATES]
    errors = {}
    for steps in (0, 3):
        planner = make_linear_planner(
            num_candidates=8, refinement_steps=steps, elite_fraction=0.25, average="plain", refinement_noise=0.05
        )
        planned = [planner.plan(context_at(STATES), guide="critic").actions[:, 0]]
        errors[steps] = float(np.abs(planned - np.array(expected)).mean())
    assert errors[3] < 0.6 * errors[0], errors


def test_a_fitted_gaussian_has_the_elites_moments_and_stays_inside() -> None:
    generator = torch.Generator().manual_seed(fresh_seed())
    elites = torch.tensor([[[[0.0, 0.9]], [[0.4, 0.9]]]])  # (1, 2, 1, 2)
    noise = torch.randn(1, 20_000, 1, 2, generator=generator)
    around = fitted(elites, torch.tensor([[5.0, 5.0]]), 1.0, noise, least_std=0.05)
    assert around[..., 0].mean() == pytest.approx(0.2, abs=0.01)
    assert around[..., 0].std() == pytest.approx(0.2, abs=0.01)
    assert around[..., 1].std() == pytest.approx(0.05, abs=0.005)
    assert fitted(elites, torch.tensor([[5.0, 5.0]]), 1.0, 9.0 * noise, least_std=0.05).abs().max() == 1.0
    better = fitted(elites, torch.tensor([[0.0, math.log(3.0)]]), 1.0, torch.zeros(1, 1, 1, 2), least_std=0.05)
    assert better[0, 0, 0, 0] == pytest.approx(0.3)


def test_with_xi_0_a_draw_says_nothing() -> None:
    """Uniform weights leave the mode and the mean of what was proposed, whatever was drawn."""
    generator = torch.Generator().manual_seed(fresh_seed())
    reference = SquashedGaussian(torch.randn(2, 3, 1, generator=generator), torch.full((2, 3, 1), -0.5))
    noise = torch.randn(2, 4, 3, 1, generator=generator)
    actions = reference.map(lambda tensor: tensor.unsqueeze(1)).sample(noise)
    uniform = torch.full((2, 4), 0.25)
    for population in (Population(actions, noise, reference), Population(actions, noise, reference).with_error()):
        torch.testing.assert_close(population.average(uniform, "around_mode", 3), reference.mode())
        torch.testing.assert_close(population.average(uniform, "around_mean", 2), reference.expectation()[:, :2])


def test_what_an_earlier_plan_does_not_say_is_the_mode() -> None:
    reference = SquashedGaussian(torch.full((1, 3, 1), 0.5), torch.zeros(1, 3, 1))
    mode = math.tanh(0.5)
    for previous, expected in (
        (None, [mode, mode, mode]),
        (torch.tensor([[[0.1], [math.nan]]]), [0.1, mode, mode]),
        (torch.tensor([[[0.1], [0.2], [0.3], [0.4]]]), [0.1, 0.2, 0.3]),
    ):
        torch.testing.assert_close(rest_of_previous(previous, reference)[0, 0, :, 0], torch.tensor(expected))


def test_a_window_offers_the_plan_of_the_step_before_and_no_older_one() -> None:
    window = ContextWindow(2, 1, 1, 2)
    keys = np.zeros((2, 3))
    for row in range(2):
        window.reset(row, [0.0])
    assert window.context(keys).previous is None
    window.remember([0, 1], np.array([[[0.1]], [[0.2]]], dtype=np.float32))
    assert np.isnan(window.context(keys).previous).all(), "it is for the next step"
    window.append(0, [0.5], [1.0])
    np.testing.assert_array_equal(window.context(keys).previous[:, 0, 0], np.array([0.1, np.nan], dtype=np.float32))
    window.append(0, [0.5], [1.0])
    assert np.isnan(window.context(keys).previous).all(), "it is older than the step before"
    window.remember([1], np.array([[[0.3]]], dtype=np.float32))
    window.reset(1, [0.0])
    window.append(1, [0.5], [1.0])
    assert np.isnan(window.context(keys, [1]).previous).all(), "it is another episode's"


def test_contexts_with_and_without_earlier_plans_are_joined() -> None:
    with_plan = with_previous(make_context(1, [5, 6], context_length=3), 1)
    without = make_context(2, [5], context_length=3)
    joined = concatenate_contexts([without, with_plan])
    assert np.isnan(joined.previous[0]).all()
    np.testing.assert_array_equal(joined.previous[1:], with_plan.previous)
    assert concatenate_contexts([without, without]).previous is None
    np.testing.assert_array_equal(joined.select([2]).previous, with_plan.previous[1:])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"refinement_steps": -1}, "planner.refinement_steps is -1"),
        ({"refinement_steps": 1, "num_candidates": 1}, "refining needs at least 2"),
        ({"asked_returns": "0.5;1"}, "planner.asked_returns: must be numbers with commas"),
        ({"asked_returns": "0.5,inf"}, "planner.asked_returns: must be numbers with commas"),
        ({"asked_returns": "1,2,3", "num_candidates": 2}, "names 3 returns for planner.num_candidates = 2"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        make_planner(0, **settings)


def test_earlier_plans_of_a_wrong_shape_are_refused() -> None:
    planner, _, _ = make_planner(0, warm_start=True)
    context = make_context(1, [6], context_length=3)
    with pytest.raises(UserError, match=r"previous has shape \(1, 7, 5\)"):
        planner.plan(replace(context, previous=np.zeros((1, 7, 5), dtype=np.float32)))
