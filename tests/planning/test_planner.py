"""Algorithm 1 against its slow version, and the promises of a plan."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from m3pc_ray.config import PlannerConfig
from m3pc_ray.errors import UserError
from m3pc_ray.planning.batch_shapes import padded
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.planning.randomness import decision_noise
from tests.planning.factory import (
    ACTION_DIM,
    DISCOUNT,
    OBSERVATION_DIM,
    TIME_LIMIT,
    assert_near,
    fresh_seed,
    make_context,
    make_model,
    make_planner,
    make_prompt,
)
from tests.planning.slow_algorithm import slow_plan


@pytest.mark.parametrize("engine", ["plain", "fast"])
@pytest.mark.parametrize("guide", ["return", "critic"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rewards_from": "rp", "horizon": 3},
        {"current_state": "reconstructed", "horizon": 0},
        {"rewards_from": "rp", "current_state": "reconstructed", "td_lambda": 0.9, "horizon": 2},
        {"horizon": 1, "return_ratio": 0.7},
        {"return_limit": 0.0},
        {"return_limit": 0.2, "return_ratio": 3.0},
        {"average": "plain"},
        {"average": "around_mean"},
    ],
)
def test_planner_equals_the_slow_algorithm(engine: str, guide: Any, settings: dict[str, Any]) -> None:
    """At the start of an episode, early in it, in its middle and across its time limit, in one call."""
    seed = fresh_seed()
    timesteps = [0, 9, 2, TIME_LIMIT - 2]
    scale = "sum" if settings.get("horizon") == 3 else "average"
    planner, model = make_planner(seed, scale, engine=engine, num_candidates=3, **settings)
    context = make_context(seed, timesteps, context_length=3)
    plan = planner.plan(context, guide=guide, details=True)
    positions = np.minimum(timesteps, 3)
    noise = [decision_noise(context.keys[b : b + 1], 3, 8 - t, ACTION_DIM)[0][0] for b, t in enumerate(positions)]
    with torch.no_grad():
        expected = slow_plan(model, planner._critic, planner.config, DISCOUNT, planner.prompt, context, noise, guide)
    assert plan.details is not None
    for b, t in enumerate(positions):
        message = f"environment {b}, seed {seed}"
        steps = 8 - t
        horizon = min(planner.config.horizon or steps, steps)
        assert_near(plan.details.candidates[b, :, :steps], expected["candidates"][b], message)
        assert_near(plan.details.predicted_states[b, :, : steps - 1], expected["states"][b], message)
        assert_near(plan.details.predicted_rewards[b, :, :horizon], expected["rewards"][b], message)
        assert_near(plan.details.utilities[b], expected["utilities"][b], message, tolerance=1e-5 * TIME_LIMIT)
        # The slow version finds the proposal's mean by sampling: 200,000 draws of spread below 1 say it to 0.002.
        tolerance = 1e-2 if planner.config.average == "around_mean" else 1e-3
        assert_near(plan.actions[b], expected["actions"][b], message, tolerance=tolerance)
        assert np.isnan(plan.details.candidates[b, :, steps:]).all()


@pytest.mark.parametrize("guide", ["none", "return", "critic"])
@pytest.mark.parametrize("position", range(8))
def test_engine_equals_oracle_at_every_horizon(position: int, guide: Any) -> None:
    seed = fresh_seed()
    for horizon in range(8 - position + 1):
        plans = []
        for engine in ("plain", "fast"):
            planner, _ = make_planner(seed, engine=engine, horizon=horizon, context_length=position)
            context = make_context(seed, [position + 5, position, position + 1], context_length=position)
            plans.append(planner.plan(context, guide=guide, details=True))
        plain, fast = plans
        message = f"seed {seed}, position {position}, horizon {horizon}, guide {guide}"
        assert_near(fast.actions, plain.actions, message, tolerance=1e-3)
        assert (fast.details is None) == (guide == "none")
        if fast.details is not None and plain.details is not None:
            for field in dataclasses.fields(fast.details):
                ours, theirs = getattr(fast.details, field.name), getattr(plain.details, field.name)
                tolerance = 1e-3 if field.name in ("probabilities", "effective_sample_size", "planned") else 1e-5
                if field.name in ("utilities", "terminal_values"):
                    tolerance *= TIME_LIMIT  # undoing the averages magnifies what is left of differences
                assert_near(ours, theirs, f"{field.name}, {message}", tolerance)


@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("guide", ["none", "return", "critic"])
def test_a_decision_does_not_depend_on_its_company(guide: Any, sample: bool) -> None:
    planner, _ = make_planner(0)
    context = make_context(1, [0, 7, 1, 12, 3], context_length=3)
    together = planner.plan(context, guide=guide, sample=sample)
    for rows in ([0], [3], [4, 1], [2, 3, 0]):
        apart = planner.plan(context.select(rows), guide=guide, sample=sample)
        np.testing.assert_allclose(apart.actions, together.actions[rows], atol=1e-4)


@pytest.mark.parametrize("guide", ["return", "critic"])
@pytest.mark.parametrize("rewards_from", ["fd", "rp"])
def test_details_change_nothing(guide: Any, rewards_from: str) -> None:
    planner, _ = make_planner(0, rewards_from=rewards_from)
    context = make_context(1, [0, 7, 1], context_length=3)
    for sample in (False, True):
        with_details = planner.plan(context, guide=guide, sample=sample, details=True)
        without = planner.plan(context, guide=guide, sample=sample)
        assert without.details is None
        np.testing.assert_allclose(with_details.actions, without.actions, atol=1e-4)


@pytest.mark.parametrize("guide", ["none", "return", "critic"])
def test_the_record_of_a_choice_is_that_of_its_row(guide: Any) -> None:
    planner, _ = make_planner(0)
    context = make_context(1, [0, 7, 1, 12, 3], context_length=3)
    plan = planner.plan(context, guide=guide, sample=True, details=True, record=True)
    unrecorded = planner.plan(context, guide=guide, sample=True, details=True)
    np.testing.assert_array_equal(plan.actions, unrecorded.actions)
    assert unrecorded.record is None
    record = plan.record
    assert record is not None
    # Environments 1, 3 and 4 stand at the last position of their windows; 0 and 2 are young, each on its own.
    np.testing.assert_array_equal(record.batch_rows, [1, 3, 1, 3, 3])
    np.testing.assert_array_equal(record.batch_row, [0, 0, 0, 1, 2])
    if guide == "none":
        assert record.utilities.shape == (5, 0)
        assert (record.chosen == -1).all()
        return
    assert plan.details is not None
    np.testing.assert_array_equal(record.utilities, plan.details.utilities)
    np.testing.assert_array_equal(record.chosen, plan.details.chosen)
    for row in range(5):
        np.testing.assert_array_equal(plan.actions[row], plan.details.candidates[row, record.chosen[row], 0])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("guide", ["return", "critic"])
def test_a_row_among_as_many_copies_has_the_same_utilities(guide: Any, precision: Any) -> None:
    """What explaining a decision rests on: who else is in the batch does not matter, how many may."""
    planner, _ = make_planner(0, precision=precision, num_candidates=50)
    context = make_context(1, [7, 12, 9, 30, 6], context_length=3)
    recorded = planner.plan(context, guide=guide, sample=True, record=True).record
    assert recorded is not None
    for row in range(5):
        copies = planner.plan(context.select([row] * 5), guide=guide, sample=True, record=True).record
        assert copies is not None
        scale = max(1.0, float(np.abs(recorded.utilities[row]).max()))
        np.testing.assert_allclose(copies.utilities[row], recorded.utilities[row], rtol=0, atol=1e-5 * scale)
        assert copies.chosen[row] == recorded.chosen[row]


def test_large_batches_come_in_few_sizes_and_answer_every_row_alike() -> None:
    sizes = {len(padded(np.arange(count))) for count in range(1, 513)}
    assert len(sizes) == 56
    assert all(len(padded(np.arange(count))) - count <= count / 8 for count in range(1, 2000))
    np.testing.assert_array_equal(padded(np.arange(3, 20)), [*range(3, 20), 19])
    planner, _ = make_planner(5)
    context = make_context(5, [3] * 17, planner.config.context_length)
    plan = planner.plan(context, sample=True, details=True, record=True)
    assert (len(plan.actions), len(plan.details.candidates), len(plan.record.utilities)) == (17, 17, 17)
    np.testing.assert_array_equal(plan.record.batch_rows, [18] * 17)
    for first, last in ((0, 8), (8, 17)):
        part = planner.plan(context.select(np.arange(first, last)), sample=True)
        assert_near(plan.actions[first:last], part.actions, f"rows {first} to {last}")


def test_what_was_considered_explains_the_action() -> None:
    planner, _ = make_planner(0, num_candidates=50, utility_sharpness_critic=3.0)
    context = make_context(1, [0, 7, 30], context_length=3)
    averaged, sampled = (planner.plan(context, sample=sample, details=True) for sample in (False, True))
    details = averaged.details
    assert details is not None
    assert sampled.details is not None
    unit = planner.config.utility_unit_critic
    shifted = 3.0 / unit * (details.utilities - details.utilities.max(1, keepdims=True))
    expected = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    np.testing.assert_allclose(details.probabilities, expected, rtol=1e-3)
    mean = (details.probabilities[..., None] * details.candidates[:, :, 0]).sum(1)
    as_in_the_paper, _ = make_planner(0, num_candidates=50, utility_sharpness_critic=3.0, average="plain")
    np.testing.assert_allclose(as_in_the_paper.plan(context).actions, mean, atol=1e-5)
    assert np.abs(averaged.actions - mean).max() > 1e-3
    np.testing.assert_allclose(details.effective_sample_size, 1 / (expected**2).sum(1), rtol=1e-3)
    assert (details.chosen == -1).all()
    for row, chosen in enumerate(sampled.details.chosen):
        np.testing.assert_array_equal(sampled.actions[row], sampled.details.candidates[row, chosen, 0])


@pytest.mark.parametrize("guide", ["return", "critic"])
def test_around_the_mean_is_the_plain_average_with_less_noise(guide: Any) -> None:
    """300 draws of the same decision: same mean action, less spread; around the mode as little."""
    context = make_context(1, [6], context_length=3).select([0] * 300)
    context.keys[:, 2] = np.arange(300)
    settings = {"num_candidates": 32, "utility_sharpness_critic": 0.3, "utility_sharpness_return": 0.3}
    actions = {
        average: make_planner(0, average=average, **settings)[0].plan(context, guide=guide).actions
        for average in ("plain", "around_mean", "around_mode")
    }
    plain, around_mean = actions["plain"], actions["around_mean"]
    np.testing.assert_allclose(around_mean.mean(0), plain.mean(0), atol=4 * plain.std(0).max() / 300**0.5)
    assert (around_mean.std(0) < 0.7 * plain.std(0)).all()
    assert (actions["around_mode"].std(0) < 0.7 * plain.std(0)).all()


@pytest.mark.parametrize("guide", ["return", "critic"])
def test_without_sharpness_planning_is_the_single_mask(guide: Any) -> None:
    planner, _ = make_planner(0, utility_sharpness_critic=0.0, utility_sharpness_return=0.0)
    context = make_context(1, [0, 7, 30], context_length=3)
    expected = planner.plan(context, guide="none").actions
    np.testing.assert_allclose(planner.plan(context, guide=guide).actions, expected, atol=1e-5)


def test_candidates_are_sampled_with_their_probability() -> None:
    """Same situation, 4000 keys: the frequency of each candidate's rank follows eq. 4."""
    planner, _ = make_planner(0, num_candidates=3, utility_sharpness_critic=4.0, horizon=1)
    context = make_context(1, [5], context_length=3).select([0] * 4000)
    context.keys[:, 2] = np.arange(4000)
    details = planner.plan(context, sample=True, details=True).details
    assert details is not None
    rank_of = np.argsort(np.argsort(details.probabilities, axis=1), axis=1)
    chosen_rank = rank_of[np.arange(4000), details.chosen]
    expected = np.sort(details.probabilities, axis=1).mean(0)
    observed = np.bincount(chosen_rank, minlength=3) / 4000
    assert expected.max() - expected.min() > 0.05, "the test needs unequal probabilities"
    np.testing.assert_allclose(observed, expected, atol=0.03)


def test_without_guide_the_distribution_acts() -> None:
    context = make_context(1, [6], context_length=3)
    many = context.select([0] * 3000)
    many.keys[:, 2] = np.arange(3000)
    planner, _ = make_planner(0)
    samples = planner.plan(many, guide="none", sample=True).actions
    mode = planner.plan(context, guide="none").actions
    np.testing.assert_allclose(np.median(samples, axis=0), mode[0], atol=0.06)  # tanh keeps medians
    assert samples.std(0).min() > 0.01


def test_new_weights_are_used_and_equal_a_new_planner() -> None:
    planner, model = make_planner(0)
    context = make_context(1, [6, 0], context_length=3)
    before = planner.plan(context).actions
    other, other_model = make_planner(17)
    expected = other.plan(context).actions
    arrays = {name: value.numpy() for name, value in other_model.state_dict().items()}
    critic_arrays = {name: value.numpy() for name, value in other._critic.state_dict().items()}
    for array in itertools.chain(arrays.values(), critic_arrays.values()):
        array.setflags(write=False)  # as they come out of Ray's object store
    planner.prompt = other.prompt
    planner.load_weights(arrays, critic_arrays)
    np.testing.assert_allclose(planner.plan(context).actions, expected, atol=1e-5)
    assert np.abs(before - expected).max() > 1e-3


def test_low_precision_plans_alike() -> None:
    context = make_context(1, [6, 0, 9], context_length=3, observation_dim=OBSERVATION_DIM)
    utilities = []
    for precision in ("float32", "bfloat16"):
        planner, _ = make_planner(0, precision=precision, num_candidates=64)
        details = planner.plan(context, details=True).details
        assert details is not None
        utilities.append(details.utilities)
    for exact, rough in zip(*utilities, strict=True):
        assert np.corrcoef(exact, rough)[0, 1] > 0.95


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"context_length": 8}, "planner.context_length is 8"),
        ({"num_candidates": 0}, "planner.num_candidates is 0"),
        ({"horizon": -1}, "planner.horizon is -1"),
        ({"td_lambda": 1.5}, "planner.td_lambda is 1.5"),
        ({"guide": "oracle"}, "planner.guide is 'oracle'"),
        ({"precision": "float8"}, "precision is 'float8'"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        make_planner(0, **settings)


def test_critic_guide_without_critic() -> None:
    model = make_model(0)
    with pytest.raises(UserError, match="there is no critic"):
        ForwardPlanner(model, None, PlannerConfig(guide="critic"), DISCOUNT, make_prompt(0))
    planner = ForwardPlanner(model, None, PlannerConfig(guide="return"), DISCOUNT, make_prompt(0))
    context = make_context(1, [6], context_length=3)
    assert planner.plan(context).actions.shape == (1, ACTION_DIM)
    with pytest.raises(UserError, match="there is no critic"):
        planner.plan(context, guide="critic")


def test_malformed_contexts_are_refused() -> None:
    planner, _ = make_planner(0)
    context = make_context(1, [6, 2], context_length=3)
    context.observations[1, 0, 0] = np.inf
    with pytest.raises(UserError, match="observations of environment 1"):
        planner.plan(context)
    with pytest.raises(UserError, match=r"planner\.context_length is 3"):
        planner.plan(make_context(1, [6], context_length=2))


def test_no_return_is_asked_for_beyond_the_limit() -> None:
    seed = fresh_seed()
    context = make_context(seed, [5, 9], context_length=3)

    def act(**settings: Any) -> np.ndarray:
        planner, _ = make_planner(seed, "sum", return_prompt="best", **settings)
        return planner.plan(context, guide="none").actions

    far = act(return_limit=0.5, return_ratio=50.0)
    np.testing.assert_array_equal(far, act(return_limit=0.5, return_ratio=80.0))
    assert np.abs(far - act(return_limit=0.0, return_ratio=50.0)).max() > 1e-4
    np.testing.assert_array_equal(act(return_limit=0.0), act(return_limit=1e6))
