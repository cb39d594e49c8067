"""The goal agent against a planner loop written out by hand, rows that come and go, and its complaints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.goal_agent import GoalAgent
from m3pc_ray.goals.schedule import GoalSchedule
from m3pc_ray.goals.waypoints import Waypoints
from m3pc_ray.planning.backward import GOAL_PLANNERS, BackwardPlanner, GoalPlanner
from m3pc_ray.planning.context import ContextWindow
from m3pc_ray.training.assemble import load_models
from m3pc_ray.training.run_folder import RunFolder
from tests.planning.factory import fresh_seed
from tests.tiny_run import CHECKPOINT_STEP, make_tiny_run

OBSERVATION_DIM, ACTION_DIM, STEPS, ROWS = 11, 3, 12, 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("goal-agent") / "run").path


def make_waypoints(rng: np.random.Generator) -> Waypoints:
    """Every second step; some dimensions free, at least one fixed."""
    states = rng.normal(size=(5, OBSERVATION_DIM)).astype(np.float32)
    states[rng.random(states.shape) < 0.6] = np.nan
    states[:, 4] = rng.normal(size=5)
    return Waypoints(np.arange(2, 12, 2), states, "made up")


@pytest.mark.parametrize("planner", GOAL_PLANNERS)
@pytest.mark.parametrize("missed", ["move_on", "wait"])
def test_equals_a_loop_written_by_hand(run: Path, planner: GoalPlanner, missed: str) -> None:
    """Three rows; one starts a new episode at time 5, one is gone from time 8 on. By hand each is planned alone."""
    seed = fresh_seed()
    rng = np.random.default_rng(seed)
    waypoints = make_waypoints(rng)
    agent = GoalAgent.load(run, waypoints, planner=planner, seed=5, missed=missed, wait_steps=3)
    models = load_models(RunFolder.open(run))
    backward = BackwardPlanner(models.model, agent.settings)
    window = ContextWindow(ROWS, OBSERVATION_DIM, ACTION_DIM, agent.settings.context_length)
    schedule = GoalSchedule(
        waypoints,
        ROWS,
        models.statistics.states_std,
        slot=agent.settings.goal_slot,
        missed=missed,  # type: ignore[arg-type]
        wait_steps=3,
        tolerance=agent.settings.tolerance,
    )
    actions = np.zeros((ROWS, ACTION_DIM), dtype=np.float32)
    episode, step = [10, 11, 12], [0] * ROWS
    for time in range(STEPS):
        rows = [0, 1, 2] if time < 8 else [0, 2]
        observations = rng.normal(size=(len(rows), OBSERVATION_DIM)).astype(np.float32)
        starts = [time == 0 or (time == 5 and row == 1) for row in rows]
        expected = []
        for row, observation, start in zip(rows, observations, starts, strict=True):
            if start:
                window.reset(row, observation)
                schedule.reset(row)
                episode[row], step[row] = episode[row] + 10, 0
            else:
                window.append(row, actions[row], observation)
                step[row] += 1
            schedule.advance(row, observation)
            context = window.context(np.array([[5, episode[row], step[row]]]), [row])
            goals = schedule.goals([row], context.positions, backward.segment_length)
            expected.append(backward.plan(context, goals, planner, sample=True).actions[0])
        streams = [episode[row] for row in rows]
        plan = agent.plan(observations, starts, deterministic=False, rows=rows, streams=streams)
        np.testing.assert_allclose(plan.actions, expected, atol=1e-5, err_msg=f"seed {seed}, time {time}")
        actions[rows] = plan.actions  # not the expected: differences of rounding must not add up
        np.testing.assert_array_equal(agent.schedule.steps[rows], np.array(step)[rows])
    np.testing.assert_array_equal(agent.schedule.missed, schedule.missed)
    np.testing.assert_array_equal(agent.schedule.delays, schedule.delays)
    assert (schedule.delays > 0).any() == (missed == "wait"), f"seed {seed}"


def test_one_observation_or_a_batch(run: Path) -> None:
    rng = np.random.default_rng(0)
    waypoints = make_waypoints(rng)
    one, many = GoalAgent.load(run, waypoints), GoalAgent.load(run, waypoints)
    for time in range(6):
        observation = rng.normal(size=OBSERVATION_DIM).astype(np.float32)
        action = one.predict(observation, time in (0, 4))
        assert action.shape == (ACTION_DIM,)
        np.testing.assert_allclose(many.predict(np.stack([observation] * 2), time in (0, 4)), [action] * 2, atol=1e-5)
    assert one.schedule.steps.tolist() == [1]


def test_reset_forgets_clocks_and_rows(run: Path) -> None:
    waypoints = make_waypoints(np.random.default_rng(1))
    agent = GoalAgent.load(run, waypoints)
    observation = np.zeros((2, OBSERVATION_DIM), dtype=np.float32)
    first = agent.predict(observation)
    agent.predict(observation)
    agent.reset()
    with pytest.raises(UserError, match="no observation yet"):
        _ = agent.schedule
    np.testing.assert_array_equal(agent.predict(observation), first)
    agent.reset()
    assert agent.predict(observation[0]).shape == (ACTION_DIM,), "another number of rows"


def test_actions_come_in_the_bounds_of_the_environment(run: Path) -> None:
    waypoints = make_waypoints(np.random.default_rng(2))
    plain, scaled = GoalAgent.load(run, waypoints), GoalAgent.load(run, waypoints)
    scaled.action_low, scaled.action_high = np.float32([-2.0, 0.0, -1.0]), np.float32([2.0, 10.0, 1.0])
    for _ in range(3):
        observation = np.random.default_rng(3).normal(size=OBSERVATION_DIM)
        expected = plain.predict(observation) * [2.0, 5.0, 1.0] + [0.0, 5.0, 0.0]
        np.testing.assert_allclose(scaled.predict(observation), expected, rtol=1e-5, atol=1e-6)


def test_loading_takes_overrides_and_checkpoints(run: Path) -> None:
    waypoints = make_waypoints(np.random.default_rng(4))
    agent = GoalAgent.load(run, waypoints, CHECKPOINT_STEP, "bc", goal_slot="last", completion_rounds=1)
    assert (agent.settings.goal_slot, agent.settings.completion_rounds, agent.planner) == ("last", 1, "bc")
    assert (agent.environment_id, agent.time_limit) == ("Hopper-v4", 1000)
    with pytest.raises(UserError, match="goal_slots"):
        GoalAgent.load(run, waypoints, goal_slots="last")
    with pytest.raises(UserError, match=r"backward\.goal_slot"):
        GoalAgent.load(run, waypoints, goal_slot="first")
    with pytest.raises(UserError, match=r"backward\.tolerance"):
        GoalAgent.load(run, waypoints, tolerance=0)
    with pytest.raises(UserError, match="99"):
        GoalAgent.load(run, waypoints, 99)
    with pytest.raises(UserError, match="nowhere"):
        GoalAgent.load(run / "nowhere", waypoints)


def test_wrong_sizes_are_refused(run: Path) -> None:
    small = Waypoints(np.array([3]), np.zeros((1, 4), dtype=np.float32), "small.csv")
    with pytest.raises(UserError, match=r"small\.csv: waypoints have 4 dimensions; Hopper-v4 observes 11"):
        GoalAgent.load(run, small)
    agent = GoalAgent.load(run, make_waypoints(np.random.default_rng(5)))
    with pytest.raises(UserError, match=r"shape \(4,\).*\(11,\)"):
        agent.predict(np.zeros(4))
    agent.predict(np.zeros((2, OBSERVATION_DIM)))
    with pytest.raises(UserError, match=r"3 observations for 2 environments"):
        agent.predict(np.zeros((3, OBSERVATION_DIM)))
    with pytest.raises(UserError, match="not finite|nan"):
        agent.predict(np.full((2, OBSERVATION_DIM), np.nan))
