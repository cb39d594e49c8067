"""Two models that plan together, against the slow algorithm given both."""

from typing import Any

import numpy as np
import pytest
import torch

from m3pc_ray.config import PlannerConfig
from m3pc_ray.model.masks import RETURNS
from m3pc_ray.model.network import Prediction, TrajectoryModel
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.planning.randomness import decision_noise
from tests.planning.factory import (
    ACTION_DIM,
    TIME_LIMIT,
    fresh_seed,
    make_context,
    make_critic,
    make_model,
    make_prompt,
)
from tests.planning.slow_algorithm import slow_plan


class TwoModels(torch.nn.Module):
    """One model to the slow algorithm: whoever is shown returns proposes, else the other answers."""

    def __init__(self, proposer: TrajectoryModel, predictor: TrajectoryModel) -> None:
        super().__init__()
        self.proposer, self.predictor = proposer, predictor

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.predictor, name)

    def forward(self, tokens: dict[str, torch.Tensor], mask: np.ndarray) -> Prediction:
        return (self.proposer if mask[RETURNS].any() else self.predictor)(tokens, mask)


def make_pair(seed: int) -> tuple[TrajectoryModel, TrajectoryModel]:
    """Different weights, the same statistics."""
    proposer, predictor = make_model(seed), make_model(seed + 1)
    for name, buffer in predictor.named_buffers():
        buffer.copy_(proposer.get_buffer(name))
    return proposer, predictor


@pytest.mark.parametrize("engine", ["plain", "fast"])
@pytest.mark.parametrize("guide", ["none", "return", "critic"])
@pytest.mark.parametrize("rewards_from", ["fd", "rp"])
def test_a_pair_plans_as_the_slow_algorithm_with_both(engine: Any, guide: Any, rewards_from: Any) -> None:
    seed = fresh_seed()
    proposer, predictor = make_pair(seed)
    config = PlannerConfig(guide=guide, engine=engine, rewards_from=rewards_from, precision="float32", num_candidates=3)
    critic, prompt = make_critic(seed, predictor), make_prompt(seed)
    planner = ForwardPlanner(predictor, critic, config, 0.95, prompt, proposer=proposer)
    timesteps = [0, 9, 2]
    context = make_context(seed, timesteps, context_length=3)
    plan = planner.plan(context, details=True)
    if guide == "none":
        alone = ForwardPlanner(proposer, critic, config, 0.95, prompt).plan(context)
        np.testing.assert_array_equal(plan.actions, alone.actions)
        return
    noise = [
        decision_noise(context.keys[b : b + 1], 3, 8 - min(t, 3), ACTION_DIM)[0][0] for b, t in enumerate(timesteps)
    ]
    both: Any = TwoModels(proposer, predictor)
    with torch.no_grad():
        expected = slow_plan(both, planner._critic, config, 0.95, prompt, context, noise, guide)
    assert plan.details is not None
    for b, t in enumerate(timesteps):
        steps, message = 8 - min(t, 3), f"environment {b}, seed {seed}"
        for ours, theirs, scale in (
            (plan.details.candidates[b, :, :steps], expected["candidates"][b], 1.0),
            (plan.details.predicted_states[b, :, : steps - 1], expected["states"][b], 10.0),
            (plan.details.utilities[b], expected["utilities"][b], TIME_LIMIT * 10.0),
            (plan.actions[b], expected["actions"][b], 100.0),
        ):
            np.testing.assert_allclose(ours, theirs, atol=2e-5 * scale, rtol=1e-4, err_msg=message)


def test_a_model_paired_with_itself_plans_as_it_does_alone() -> None:
    seed = fresh_seed()
    model, config = make_model(seed), PlannerConfig(guide="return", precision="float32", num_candidates=5)
    context = make_context(seed, [0, 9, 2], context_length=3)
    plans = [
        ForwardPlanner(model, None, config, 0.95, make_prompt(seed), proposer=proposer).plan(context)
        for proposer in (None, model)
    ]
    np.testing.assert_array_equal(plans[0].actions, plans[1].actions)


def test_refresh_takes_over_both() -> None:
    proposer, predictor = make_pair(3)
    config = PlannerConfig(guide="return", precision="float32", num_candidates=5)
    planner = ForwardPlanner(predictor, None, config, 0.95, make_prompt(3), proposer=proposer)
    context = make_context(3, [9], context_length=3)
    for changed in (proposer, predictor):
        before = planner.plan(context, details=True)
        with torch.no_grad():
            for parameter in changed.parameters():
                parameter.mul_(0.8)
        planner.refresh()
        after = planner.plan(context, details=True)
        assert before.details is not None
        assert after.details is not None
        moved = not np.array_equal(before.details.candidates, after.details.candidates)
        assert moved == (changed is proposer)
        assert not np.array_equal(before.details.utilities, after.details.utilities)
