"""Backward planning in closed loop, with a model trained in seconds on random pushes: nobody ever went to a goal there.

Behaviour cloning, which does not see the goal, is what would come out if goals did not matter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3pc_ray.evaluation.reaching.reach import Reached, compare, make_facts
from m3pc_ray.goal_agent import GoalAgent
from m3pc_ray.goals.task import Facts
from m3pc_ray.goals.user_waypoints import UserWaypoints
from m3pc_ray.goals.waypoints import Waypoints
from m3pc_ray.training.assemble import Models, load_models
from m3pc_ray.training.run_folder import RunFolder
from tests.swirl import TIME_LIMIT, TURN, Swirl, random_episodes

SEEDS = [3, 4, 5, 6]
CIRCLE = [[0.6 * np.cos(-0.5 * k), 0.6 * np.sin(-0.5 * k)] for k in range(9)]  # against the swirl


@pytest.fixture(scope="module")
def models(swirl_run: Path) -> Models:
    return load_models(RunFolder.open(swirl_run))


@pytest.fixture(scope="module")
def facts(models: Models) -> Facts:
    return make_facts(models, random_episodes())


def with_settings(models: Models, **settings: Any) -> Models:
    backward = dataclasses.replace(models.config.backward, **settings)
    return dataclasses.replace(models, config=dataclasses.replace(models.config, backward=backward))


def play(models: Models, facts: Facts, file: Path, planners: list[Any], **settings: Any) -> Reached:
    problem = UserWaypoints(file=str(file)).problem(facts)
    return compare(with_settings(models, **settings), facts, problem, planners, SEEDS)


def write_table(path: Path, steps: list[int], states: list[list[float]], columns: str = "0,1") -> Path:
    rows = [",".join(map(str, [step, *state])) for step, state in zip(steps, states, strict=True)]
    path.write_text("\n".join([f"step,{columns}", *rows]) + "\n")
    return path


@pytest.mark.parametrize("slot", ["due", "last"])
def test_a_way_nobody_went_is_followed(models: Models, facts: Facts, tmp_path: Path, slot: str) -> None:
    table = write_table(tmp_path / "circle.csv", list(range(4, 40, 4)), CIRCLE)
    backward, cloned = play(models, facts, table, ["backward", "bc"], goal_slot=slot).rows
    assert backward["tracking_error_mean"] < 0.5
    assert cloned["tracking_error_mean"] > 0.9, "the task does not happen by itself"
    assert (backward["success_rate"], cloned["success_rate"]) == (1.0, 0.0)
    assert (backward["missed_mean"], backward["terminated_rate"]) == (0, 0)


def test_goals_that_fix_one_dimension(models: Models, facts: Facts, tmp_path: Path) -> None:
    """A square wave of the second entry; the first is free, so errors are those of the second alone."""
    table = write_table(tmp_path / "wave.csv", list(range(6, 37, 6)), [[0.5 * (-1) ** k] for k in range(6)], "1")
    backward, cloned = play(models, facts, table, ["backward", "bc"]).rows
    assert backward["tracking_error_mean"] < 0.5 * cloned["tracking_error_mean"]
    assert backward["key_error_mean"] == backward["tracking_error_mean"]
    assert backward["success_rate"] > cloned["success_rate"]


DRIFTING = """
import numpy as np
from m3pc_ray.goals.waypoints import Waypoints

STEPS = np.arange(4, 37, 2)
START, DRIFT = np.float32([0.3, 0.3]), np.float32([-0.025, -0.02])

def states_at(step):
    return np.tile(START + DRIFT * step, (len(STEPS), 1))

def drifting(environment_id, observation_dim):
    return Waypoints(STEPS, states_at(0), "", lambda step, observation: states_at(step))

def standing(environment_id, observation_dim):
    return STEPS, states_at(0)
"""


def test_goals_that_drift_are_followed(models: Models, facts: Facts, tmp_path: Path) -> None:
    file = tmp_path / "drift.py"
    file.write_text(DRIFTING)
    found = play(models, facts, Path(f"{file}:drifting"), ["backward", "bc"])
    steps = np.arange(4, 37, 2)
    true = np.float32([0.3, 0.3]) + np.float32([-0.025, -0.02]) * steps[:, np.newaxis]
    for episode in (episode for played in found.episodes.values() for episode in played):
        np.testing.assert_allclose(episode.wanted[steps], true, atol=1e-6)
        assert np.isnan(np.delete(episode.wanted, steps, axis=0)).all()
    backward, cloned = found.rows
    assert backward["tracking_error_mean"] < 0.4 * cloned["tracking_error_mean"]
    assert (backward["success_rate"], cloned["success_rate"]) == (1.0, 0.0), "judged where the goals were when due"
    (stood,) = play(models, facts, Path(f"{file}:standing"), ["backward"]).episodes.values()
    late = [np.abs(episode.reached[steps[-5:]] - true[-5:]).mean() for episode in stood]
    chased = [np.abs(episode.reached[steps[-5:]] - true[-5:]).mean() for episode in found.episodes["backward"]]
    assert max(chased) < 0.3 * min(late), "who thinks that goals stand still is left behind"


def steer(
    models: Models,
    waypoints: Waypoints,
    steps: int,
    disturb: Callable[[int, np.ndarray], np.ndarray] = lambda step, state: state,
    **settings: Any,
) -> tuple[np.ndarray, GoalAgent]:
    """Observations (steps + 1, 2) of anyone's loop, beyond the last waypoint if need be; `disturb` moves the state."""
    agent, environment = GoalAgent(with_settings(models, **settings), waypoints), Swirl()
    observation, _ = environment.reset(seed=9)
    reached = [observation]
    for step in range(steps):
        environment.step(agent.predict(observation))
        environment.state = disturb(step, environment.state)
        observation = environment.state.astype(np.float32)
        reached.append(observation)
    return np.stack(reached), agent


def way(steps: list[int], states: list[list[float]]) -> Waypoints:
    return Waypoints(np.array(steps), np.array(states, dtype=np.float32), "a way")


def distances(models: Models, reached: np.ndarray, goal: list[float]) -> np.ndarray:
    """(steps + 1,) root mean square over both entries, in standard deviations of the data."""
    return np.sqrt(np.mean(((reached - goal) / models.statistics.states_std) ** 2, axis=1))


def test_a_missed_goal_is_waited_for_and_those_after_it_come_later(models: Models) -> None:
    """The first goal cannot be reached in one step. Who moves on never sees it; who waits reaches it, then the next."""
    first, second, tolerance = [0.8, 0.0], [0.0, -0.7], 0.5
    settings = {"tolerance": tolerance, "wait_steps": 15}
    waited, agent = steer(models, way([1, 5], [first, second]), 22, missed="wait", **settings)
    moved, hurried = steer(models, way([1, 5], [first, second]), 22, missed="move_on", **settings)
    assert distances(models, waited, first).min() <= tolerance
    assert distances(models, moved, first).min() > 1.5 * tolerance
    delay = int(agent.schedule.delays[0])
    assert (int(agent.schedule.missed[0]), int(hurried.schedule.missed[0])) == (0, 1)
    assert 2 <= delay <= 15, "it takes longer than a step"
    assert hurried.schedule.delays[0] == 0
    assert distances(models, waited, second)[5 + delay] < tolerance, "the second comes as much later"
    assert distances(models, moved, second)[5] < tolerance, "and in time where nobody waited"


def test_a_goal_that_cannot_be_reached_is_given_up(models: Models) -> None:
    """No action holds a state so far out: after `wait_steps` the next goal is asked for, and reached."""
    waypoints = way([2, 8], [[5.0, 5.0], [0.4, -0.4]])
    reached, agent = steer(models, waypoints, 26, missed="wait", tolerance=0.3, wait_steps=4)
    assert (int(agent.schedule.delays[0]), int(agent.schedule.missed[0])) == (4, 1)
    assert distances(models, reached, [0.4, -0.4])[-1] < 0.5


def test_a_push_on_the_way_needs_no_special_case(models: Models) -> None:
    """Plans are made anew from what is there: the goal is reached all the same, and held after its time."""
    goal = [0.4, -0.4]

    def push(step: int, state: np.ndarray) -> np.ndarray:
        return state + [-0.7, 0.4] if step == 6 else state

    pushed, _ = steer(models, way([14], [goal]), 24, push)
    assert distances(models, pushed, goal)[7] > 1.0, "it was pushed away"
    assert distances(models, pushed, goal)[14] < 0.4
    assert distances(models, pushed, goal)[15:].max() < 0.75
    left_alone = TURN @ TURN @ TURN @ goal
    assert distances(models, left_alone[np.newaxis], goal)[0] > 0.4, "the goal does not hold itself"


def test_the_last_window_of_an_episode_and_waypoints_after_the_time_limit(
    models: Models, facts: Facts, tmp_path: Path
) -> None:
    """Three waypoints, the last beyond the limit: it is seen by plans near the end, and measured by nobody."""
    steps = [TIME_LIMIT - 8, TIME_LIMIT - 2, TIME_LIMIT + 3]
    table = write_table(tmp_path / "late.csv", steps, [[0.4, 0.2], [0.3, -0.4], [-0.5, -0.5]])
    problem = UserWaypoints(file=str(table), visited_share=1.0).problem(facts)
    assert any("waypoint 3 is due after the environment's time limit" in warning for warning in problem.warnings)
    assert problem.episode_steps == TIME_LIMIT
    found = compare(models, facts, problem, ["backward", "goal_mask", "bc"], SEEDS)
    for row in found.rows:
        assert (row["lengths"], row["terminated_rate"]) == ([TIME_LIMIT] * len(SEEDS), 0.0), row["planner"]
    for episode in found.episodes["backward"]:
        assert np.flatnonzero(~np.isnan(episode.wanted).all(axis=1)).tolist() == steps[:2]
        by_hand = (episode.reached[steps[:2]] - [[0.4, 0.2], [0.3, -0.4]]) / facts.std
        assert np.sqrt(np.mean(by_hand**2)) == pytest.approx(
            found.rows[0]["tracking_errors"][SEEDS.index(episode.seed)], rel=1e-5
        )
    assert found.rows[0]["success_rate"] == 1.0, "only what there was time for counts"
    assert found.rows[2]["success_rate"] == 0.0


def test_the_same_seeds_give_the_same_bits(models: Models, facts: Facts, tmp_path: Path) -> None:
    table = write_table(tmp_path / "circle.csv", list(range(4, 40, 4)), CIRCLE)
    one, two = (play(models, facts, table, ["goal_mask", "backward"]) for _ in range(2))
    for planner, episodes in one.episodes.items():
        for episode, again in zip(episodes, two.episodes[planner], strict=True):
            np.testing.assert_array_equal(episode.reached, again.reached)
    first = one.episodes["backward"][0].reached[0]
    np.testing.assert_array_equal(first, one.episodes["goal_mask"][0].reached[0], "all planners start alike")


def test_waypoints_delayed_by_waiting_are_reached_after_the_planned_end(
    models: Models, facts: Facts, tmp_path: Path
) -> None:
    """The first lies where no action leads. Waited for in vain, the others come later than planned, and do come."""
    table = write_table(tmp_path / "late.csv", [3, 6, 9], [[30.0, 0.0], [0.0, 0.6], [0.6, 0.0]])
    waited = play(models, facts, table, ["backward"], missed="wait", wait_steps=8, tolerance=0.4)
    moved = play(models, facts, table, ["backward"], missed="move_on", tolerance=0.4)
    (row,), (prompt,) = waited.rows, moved.rows
    assert row["delay_mean"] >= 8
    assert prompt["delay_mean"] == 0
    assert row["lengths"] == [9 + delay for delay in row["delays"]], "the episode goes on until the last has come"
    assert set(prompt["lengths"]) == {9}
    assert row["missed_mean"] >= 1
    for episode in waited.episodes["backward"]:
        assert np.isnan(episode.wanted[10:]).all(), "errors are measured by the planned clock"
        end = np.square((episode.reached[-3:] - [0.6, 0.0]) / facts.std).mean(axis=1) ** 0.5
        assert end.min() < 0.5, "the last waypoint is reached in the end"


def test_waypoints_that_a_fall_cut_off_count_as_missed(models: Models, facts: Facts, tmp_path: Path) -> None:
    steps = list(range(2, 20, 2))
    table = write_table(tmp_path / "far.csv", steps, [[50.0, 50.0]] * len(steps))
    (row,) = play(models, facts, table, ["backward"]).rows
    assert row["missed_mean"] == len(steps)
