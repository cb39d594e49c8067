"""Actions of fixed noise: what is drawn with each guide, engine against oracle, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from m3pc_ray.config import PlannerConfig
from m3pc_ray.errors import UserError
from m3pc_ray.planning.engine import FastInference
from m3pc_ray.planning.fixed_noise import FixedNoiseInference
from m3pc_ray.planning.oracle import PlainInference
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.planning.randomness import decision_noise
from tests.planning.factory import fresh_seed, make_context, make_critic, make_model, make_prompt
from tests.planning.test_engine import random_window

STD = 0.37
CONFIG = PlannerConfig(num_candidates=6, context_length=3, precision="float32", action_noise="fixed", noise_std=STD)


def make_planner(seed: int, **settings: object) -> ForwardPlanner:
    model = make_model(seed)
    return ForwardPlanner(model, make_critic(seed, model), replace(CONFIG, **settings), 0.9, make_prompt(seed))


@pytest.mark.parametrize("t", [0, 3])
def test_engine_and_oracle_propose_the_same_and_the_spread_is_the_given_one(t: int) -> None:
    seed = fresh_seed()
    model, window = make_model(seed), random_window(seed, t, 3)
    fast, plain = (
        FixedNoiseInference(kind(model), STD).propose(window, 8 - t) for kind in (FastInference, PlainInference)
    )
    own = PlainInference(model).propose(window, 8 - t)
    torch.testing.assert_close(fast.mean, plain.mean, rtol=1e-5, atol=1e-5, msg=f"seed {seed}")
    torch.testing.assert_close(plain.mean, own.mean, rtol=0, atol=0)
    for proposal in (fast, plain):
        torch.testing.assert_close(proposal.log_std.exp(), torch.full_like(own.log_std, STD))
    assert float(own.log_std.exp().sub(STD).abs().min()) > 0.0  # the model's own is another one


@pytest.mark.parametrize("guide", ["none", "return", "critic"])
def test_both_engines_act_alike(guide: str) -> None:
    seed = fresh_seed()
    context = make_context(seed, [0, 2, 3, 9], 3)
    # Where utilities are nearly equal the last bits could choose another candidate; a flat softmax keeps the margins.
    settings = {"guide": guide, "utility_sharpness_critic": 0.01, "utility_sharpness_return": 0.01}
    plans = [make_planner(seed, engine=engine, **settings).plan(context, sample=True) for engine in ("fast", "plain")]
    np.testing.assert_allclose(plans[0].actions, plans[1].actions, atol=1e-4, err_msg=f"seed {seed}")


def test_sampling_without_planning_is_the_mean_plus_the_noise_of_the_key() -> None:
    seed = fresh_seed()
    planner, context = make_planner(seed, guide="none", engine="plain"), make_context(seed, [1, 7, 3], 3)
    noise, _ = decision_noise(context.keys, 1, 1, 2)
    mean = planner.proposal(context).mean.numpy()
    expected = np.tanh(mean + STD * noise[:, 0, 0])
    np.testing.assert_allclose(planner.plan(context, sample=True).actions, expected, atol=1e-5, err_msg=f"seed {seed}")
    np.testing.assert_allclose(planner.plan(context).actions, np.tanh(mean), atol=1e-5)


@pytest.mark.parametrize(("noise", "spread"), [("fixed", STD), ("model", None)])
def test_the_spread_of_many_draws(noise: str, spread: float | None) -> None:
    """Of one situation under many keys, before the tanh: the mean is the model's, the deviation that of the setting."""
    planner = make_planner(3, guide="none", action_noise=noise)
    context = make_context(3, [5] * 4000, 3)
    for values in (context.observations, context.actions):
        values[:] = values[0]
    drawn = np.arctanh(planner.plan(context, sample=True).actions.astype(np.float64).clip(-1 + 1e-7, 1 - 1e-7))
    proposal = planner.proposal(context.select([0]))
    expected = proposal.log_std.exp()[0].numpy() if spread is None else np.full(2, spread)
    np.testing.assert_allclose(drawn.std(0), expected, rtol=0.06)
    np.testing.assert_allclose(drawn.mean(0), proposal.mean[0].numpy(), atol=5 * float(expected.max()) / 4000**0.5)


def test_planning_over_the_noise_chooses_by_utility_among_candidates_of_it() -> None:
    seed = fresh_seed()
    planner = make_planner(seed, guide="critic", utility_sharpness_critic=1e6)
    context = make_context(seed, [4, 8], 3)
    plan = planner.plan(context, sample=True, details=True)
    assert plan.details is not None
    noise, _ = decision_noise(context.keys, 6, 5, 2)
    mean = planner.proposal(context).mean.numpy()
    first = plan.details.candidates[:, :, 0]
    np.testing.assert_allclose(first, np.tanh(mean[:, None] + STD * noise[:, :, 0]), atol=1e-4, err_msg=f"seed {seed}")
    best = plan.details.utilities.argmax(1)
    np.testing.assert_array_equal(plan.details.chosen, best)
    np.testing.assert_array_equal(plan.actions, first[np.arange(2), best])


def test_a_proposal_has_the_rows_of_its_context_in_order() -> None:
    planner, context = make_planner(5), make_context(5, [9, 0, 2, 9, 1], 3)
    together = planner.proposal(context).mean
    for row in range(5):
        alone = planner.proposal(context.select([row])).mean[0]
        torch.testing.assert_close(together[row], alone, rtol=1e-4, atol=1e-5)


def test_noise_of_no_width_is_refused() -> None:
    with pytest.raises(UserError, match="planner.noise_std is none"):
        make_planner(0, noise_std=None)
