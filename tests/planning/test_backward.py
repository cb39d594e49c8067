"""Backward planning against the plain version, and what a user may rely on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from m3pc_ray.config import BackwardConfig
from m3pc_ray.errors import UserError
from m3pc_ray.goals.goal_window import GoalWindow
from m3pc_ray.planning.backward import GOAL_PLANNERS, BackwardPlanner
from m3pc_ray.planning.context import PlanningContext
from tests.planning.factory import ACTION_DIM, OBSERVATION_DIM, fresh_seed, make_model
from tests.planning.factory import make_context as make_context_at
from tests.planning.slow_backward import slow_backward

T, CONTEXT = 8, 3


def make_context(rng: np.random.Generator, count: int) -> PlanningContext:
    """Environments early in their episodes and later."""
    return make_context_at(int(rng.integers(2**31)), rng.integers(0, 2 * CONTEXT, count).tolist(), CONTEXT)


def make_goals(rng: np.random.Generator, context: PlanningContext, partial: bool) -> GoalWindow:
    """One to three goals an environment, in no order, some dimensions free."""
    count = 3
    states = rng.normal(size=(len(context), count, OBSERVATION_DIM)).astype(np.float32)
    slots = np.full((len(context), count), -1, dtype=np.int64)
    for row, t in enumerate(context.positions):
        used = int(rng.integers(1, count + 1))
        slots[row, rng.permutation(count)[:used]] = rng.permutation(np.arange(t + 1, T))[:used]
    if partial:
        free = rng.random(states.shape) < 0.5
        free[..., 0] = False
        states[free] = np.nan
    return GoalWindow(states, slots)


@pytest.mark.parametrize("planner", GOAL_PLANNERS)
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("sees", ["state", "history"])
@torch.inference_mode()
def test_equals_the_plain_version(planner: str, partial: bool, sees: str) -> None:
    seed = fresh_seed()
    rng = np.random.default_rng(seed)
    model = make_model(seed).eval()
    context = make_context(rng, 9)
    goals = make_goals(rng, context, partial)
    config = BackwardConfig(context_length=CONTEXT, completion_rounds=2, goal_mask_sees=sees)
    plan = BackwardPlanner(model, config).plan(context, goals, planner)
    for row in range(len(context)):
        action, path = slow_backward(model, context, goals, row, planner, 2, sees)
        np.testing.assert_allclose(plan.actions[row], action, atol=1e-5, err_msg=f"seed {seed}")
        np.testing.assert_allclose(plan.path[row], path, atol=1e-4, err_msg=f"seed {seed}")


def test_what_was_observed_and_what_is_fixed_stand_in_the_path_untouched() -> None:
    seed = fresh_seed()
    rng = np.random.default_rng(seed)
    context = make_context(rng, 12)
    goals = make_goals(rng, context, partial=True)
    plan = BackwardPlanner(make_model(seed), BackwardConfig(context_length=CONTEXT)).plan(context, goals)
    assert np.isfinite(plan.path).all()
    for row, t in enumerate(context.positions):
        np.testing.assert_array_equal(plan.path[row, : t + 1], context.observations[row, : t + 1], f"seed {seed}")
        for goal, slot in zip(goals.states[row], goals.slots[row], strict=True):
            fixed = ~np.isnan(goal)
            if slot >= 0:
                np.testing.assert_allclose(plan.path[row, slot, fixed], goal[fixed], atol=1e-5, err_msg=f"seed {seed}")


def test_an_environment_is_answered_alike_alone_and_in_company() -> None:
    seed = fresh_seed()
    rng = np.random.default_rng(seed)
    context = make_context(rng, 7)
    goals = make_goals(rng, context, partial=True)
    planner = BackwardPlanner(make_model(seed), BackwardConfig(context_length=CONTEXT))
    together = planner.plan(context, goals, sample=True).actions
    order = rng.permutation(len(context))
    shuffled = planner.plan(context.select(order), goals.select(order), sample=True).actions
    alone = np.concatenate([planner.plan(context.select([r]), goals.select([r]), sample=True).actions for r in order])
    np.testing.assert_allclose(shuffled, together[order], atol=1e-5, err_msg=f"seed {seed}")
    np.testing.assert_allclose(alone, together[order], atol=1e-5, err_msg=f"seed {seed}")


def test_behaviour_cloning_does_not_look_at_the_goal_and_the_others_do() -> None:
    seed = fresh_seed()
    rng = np.random.default_rng(seed)
    context = make_context(rng, 4)
    goals = make_goals(rng, context, partial=False)
    moved = GoalWindow(goals.states + np.float32(1.0), goals.slots)
    planner = BackwardPlanner(make_model(seed), BackwardConfig(context_length=CONTEXT))
    for name in GOAL_PLANNERS:
        change = np.abs(planner.plan(context, goals, name).actions - planner.plan(context, moved, name).actions)
        assert (change.max() == 0) == (name == "bc"), f"seed {seed}, {name}"


def test_new_weights_count_from_the_next_refresh_on() -> None:
    seed = fresh_seed()
    rng = np.random.default_rng(seed)
    context = make_context(rng, 2)
    goals = make_goals(rng, context, partial=False)
    model = make_model(seed)
    planner = BackwardPlanner(model, BackwardConfig(context_length=CONTEXT))
    before = planner.plan(context, goals).actions
    model.load_state_dict(make_model(seed + 1).state_dict())
    np.testing.assert_array_equal(planner.plan(context, goals).actions, before)
    planner.refresh()
    assert np.abs(planner.plan(context, goals).actions - before).max() > 1e-3, f"seed {seed}"


@pytest.mark.parametrize(
    ("slots", "state", "message"),
    [
        ([[3]], 0.0, r"environment 0 has goal 0 at window step 3; from its step 3 on, 1 to 4 steps ahead"),
        ([[8]], 0.0, r"window step 8"),
        ([[-1, -1]], 0.0, r"environment 0 has none; each needs at least one"),
        ([[6]], np.inf, r"infinite"),
        ([[6]], np.nan, r"fixes none"),
        ([[6, 6]], 0.0, r"two goals at the same window step"),
        ([[6], [7]], 0.0, r"do not fit 1 environments"),
    ],
)
def test_goals_that_cannot_be_are_refused(slots: list[list[int]], state: float, message: str) -> None:
    rng = np.random.default_rng(0)
    context = make_context(rng, 1)
    context = dataclasses.replace(context, timesteps=np.array([CONTEXT]))
    values = np.full((*np.shape(slots), OBSERVATION_DIM), state, dtype=np.float32)
    planner = BackwardPlanner(make_model(0), BackwardConfig(context_length=CONTEXT))
    with pytest.raises(UserError, match=message):
        planner.plan(context, GoalWindow(values, np.array(slots)))


def test_unknown_planner_and_a_context_without_room_for_a_goal_are_refused() -> None:
    with pytest.raises(UserError, match=r"backward\.context_length is 7; segments of 8 steps allow 0 to 6"):
        BackwardPlanner(make_model(0), BackwardConfig(context_length=7))
    context = make_context(np.random.default_rng(0), 1)
    goals = GoalWindow(np.zeros((1, 1, OBSERVATION_DIM), dtype=np.float32), np.array([[7]]))
    with pytest.raises(UserError, match="must be one of backward, goal_mask, bc"):
        BackwardPlanner(make_model(0), BackwardConfig(context_length=CONTEXT)).plan(context, goals, "forward")


def test_actions_have_the_models_size() -> None:
    rng = np.random.default_rng(1)
    context = make_context(rng, 3)
    plan = BackwardPlanner(make_model(1), BackwardConfig(context_length=CONTEXT)).plan(
        context, make_goals(rng, context, partial=False)
    )
    assert plan.actions.shape == (3, ACTION_DIM)
    assert (np.abs(plan.actions) <= 1).all()
