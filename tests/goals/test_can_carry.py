"""Demonstrations bent by an affine map, and the task that asks for them, on episodes that scripted experts play."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from m3pc_ray.collection.scripted import scripts
from m3pc_ray.collection.scripted.expert import ScriptedExpert
from m3pc_ray.environments.manipulation import observation
from m3pc_ray.environments.manipulation.tasks import TASKS as MANIPULATION
from m3pc_ray.environments.observation_names import observation_names
from m3pc_ray.errors import UserError
from m3pc_ray.goals.can_carry import CanCarry
from m3pc_ray.goals.guidance import affine_map, bend, from_where_it_is
from m3pc_ray.goals.schedule import GoalSchedule
from m3pc_ray.goals.success import EndsWithin
from m3pc_ray.goals.task import Facts
from m3pc_ray.goals.tasks import load_task
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from m3pc_ray.trajectories.validation import environment_facts, metadata_of
from tests.collection.scripted.toy_robot import ToyRobot

CAN = "robosuite/PickPlaceCan-v1"
TASK = MANIPULATION[CAN]
HAND, THING = slice(0, 2), slice(9, 11)


def played(number: int, script) -> np.ndarray:
    """(steps + 1, 23) of a toy robot and a scripted expert."""
    robot = ToyRobot([*np.random.default_rng(number).uniform([0.0, -0.35], [0.15, -0.15]), 0.86], 0.0)
    expert, seen = ScriptedExpert([script]), []
    for step in range(400):
        seen.append(robot.observation())
        action = expert.plan(seen[-1], step == 0, streams=[number]).actions[0]
        if expert.over(0):
            break
        robot.step(action)
    seen = np.array(seen)
    return observation.continuous(TASK, observation.assemble(TASK, seen[:, :9], seen[:, 9:16]), [0]).astype(np.float32)


@pytest.fixture(scope="module")
def facts() -> Facts:
    """Three placed and three thrown cans."""
    episodes = [played(number, script()) for number in range(3) for script in (scripts.place, scripts.throw)]
    for thrown in episodes[1::2]:
        thrown[-1, 11] = 0.3  # on the floor, of which the toy knows nothing
    lengths = [len(seen) - 1 for seen in episodes]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rewards = np.zeros(starts[-1], np.float32)
    rewards[starts[1::2] - 1] = 1.0
    data = Trajectories(
        observations=np.concatenate([seen[:-1] for seen in episodes]),
        actions=np.zeros((starts[-1], 7), np.float32),
        rewards=rewards,
        episode_starts=starts,
        episode_ends=np.full(6, EpisodeEnd.TERMINATED, np.int8),  # a thrown can is over, too
        final_observations=np.stack([seen[-1] for seen in episodes]),
        metadata=metadata_of(environment_facts(CAN), "played"),
    )
    return Facts(CAN, observation_names(CAN, 23), 0.05, data, np.full(23, 0.1, np.float32), 400)


@pytest.mark.parametrize("seed", range(5))
def test_three_points_go_where_they_should_and_others_with_them(seed):
    rng = np.random.default_rng(seed)
    before, after = rng.normal(size=(2, 3, 2))
    found = affine_map(before, after)
    np.testing.assert_allclose(before @ found[:, :2].T + found[:, 2], after, atol=1e-9)
    shares = rng.dirichlet(np.ones(3))  # an affine map keeps weighted means
    np.testing.assert_allclose(found[:, :2] @ (shares @ before) + found[:, 2], shares @ after, atol=1e-9)


def test_points_on_a_line_are_refused():
    with pytest.raises(UserError, match="lie on a line"):
        affine_map([[0, 0], [1, 1], [2, 2.001]], np.zeros((3, 2)))


def test_a_demonstration_from_its_own_beginning_to_its_own_end_is_itself():
    shown = played(0, scripts.place())
    np.testing.assert_allclose(bend(TASK, shown, shown[0], None), shown, atol=2e-5)
    np.testing.assert_allclose(bend(TASK, shown, shown[0], shown[-1, THING]), shown, atol=2e-5)


@pytest.mark.parametrize("seed", range(3))
def test_bent_it_begins_as_observed_ends_as_wanted_and_holds_together(seed):
    shown, other = played(0, scripts.place()), played(10 + seed, scripts.place())
    end = np.random.default_rng(seed).uniform([0.0, 0.1], [0.2, 0.4])
    bent = bend(TASK, shown, other[0], end)
    np.testing.assert_allclose(bent[0, HAND], other[0, HAND], atol=1e-5)
    np.testing.assert_allclose(bent[0, THING], other[0, THING], atol=1e-5)
    np.testing.assert_allclose(bent[-1, THING], end, atol=1e-5)
    kept = [2, *range(3, 9), *range(11, 16)]  # heights, rotations, fingers
    np.testing.assert_allclose(bent[:, kept], shown[:, kept], atol=1e-6)
    relative = observation.seen_from_gripper(TASK, bent[:, :9].astype(float), bent[:, 9:16].astype(float))
    np.testing.assert_allclose(bent[:, 16:19], relative[:, :3], atol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(bent[:, 19:] * relative[:, 3:], axis=1)), 1.0, atol=1e-5)
    holding = np.linalg.norm(shown[:, :3] - shown[:, 9:12], axis=1) < 0.012
    assert holding.sum() > 30
    assert np.linalg.norm(bent[holding, :3] - bent[holding, 9:12], axis=1).max() < 0.025  # still in the hand


@pytest.mark.parametrize("name", ["can-place", "can-throw", "can-between"])
def test_shipped_tasks_ask_for_a_way_from_where_each_episode_begins(facts, name):
    task = load_task(name).task
    problem = task.problem(facts)
    waypoints = problem.waypoints
    assert not np.isnan(waypoints.states).any()
    assert (np.diff(waypoints.steps) == task.every).all()
    measured = np.flatnonzero(~np.isnan(problem.wanted).all(axis=1))
    np.testing.assert_array_equal(measured, waypoints.steps)  # elsewhere the mean start's way would be the measure
    schedule = GoalSchedule(waypoints, 2, facts.std)
    begins = [played(20 + row, scripts.place()) for row in range(2)]
    for row, seen in enumerate(begins):
        for step in range(5):
            schedule.advance(row, seen[step])
    for row, seen in enumerate(begins):  # what was seen after the first observation has changed nothing
        states = schedule.states(row)
        near_start = np.abs(states[0, THING] - seen[0, THING]).max()
        assert near_start < 0.01
        fresh = GoalSchedule(waypoints, 1, facts.std)
        fresh.advance(0, seen[0])
        np.testing.assert_array_equal(fresh.states(0), states)
        if task.place_x is not None:
            np.testing.assert_allclose(states[-1, THING], [task.place_x, task.place_y], atol=1e-4)
        assert (states[-1, 11] < 0.75) == (name == "can-throw")
    plane = problem.plane  # y to the right, x upwards
    assert plane is not None
    assert plane.dimensions == (10, 9)
    np.testing.assert_array_equal(plane.demonstrated, facts.trajectories.final_observations[:, [10, 9]])
    bounded = name != "can-throw"
    assert np.isfinite(plane.target).all() == bounded
    assert not bounded or all(
        low < end < high for end, (low, high) in zip(states[-1, [10, 9]], plane.target, strict=True)
    )
    assert problem.success.succeeded(schedule.states(0)[[0, -1]], False, 0.05)
    assert not problem.success.succeeded(schedule.states(0)[[-1, 0]], False, 0.05)


def guide_of(facts: Facts, along: str) -> int:
    return CanCarry(along=along)._guide(facts)


@pytest.mark.parametrize(("along", "first"), [("solved", 0), ("failed", 1)])
def test_the_way_is_shown_by_an_episode_of_the_right_kind_that_can_be_bent(facts, along, first):
    data = facts.trajectories
    usual = guide_of(facts, along)
    kind = np.arange(first, 6, 2)
    assert usual in kind
    assert data.lengths[usual] == np.median(data.lengths[kind])
    bent = dataclasses.replace(data, final_observations=data.final_observations.copy())
    begins = data.observations[data.episode_starts[:-1]]

    def put_on_a_line(episode: int) -> Facts:
        hand, thing = begins[episode, HAND], begins[episode, THING]
        bent.final_observations[episode, THING] = thing + (thing - hand)
        return dataclasses.replace(facts, trajectories=bent)

    assert guide_of(put_on_a_line(usual), along) in set(kind) - {usual}
    for episode in kind:
        straight = put_on_a_line(int(episode))
    with pytest.raises(UserError, match=f"no {along} episode to go along: .* do not lie on a line"):
        guide_of(straight, along)
    cut = dataclasses.replace(data, episode_ends=np.full(6, EpisodeEnd.CUT, np.int8))
    with pytest.raises(UserError, match=f"no {along} episode"):
        guide_of(dataclasses.replace(facts, trajectories=cut), along)


def test_the_rest_of_the_way_begins_where_the_can_is_and_ends_where_it_should():
    rng = np.random.default_rng(3)
    steps = np.arange(4, 44, 4)
    states = rng.normal(size=(10, 23)).astype(np.float32)
    states[:3, THING] = states[0, THING]  # it lies
    states[-2:, THING] = states[-1, THING]
    seen = rng.normal(size=23).astype(np.float32)
    for step in (1, 12, 21, 30):
        moved = from_where_it_is(steps, step, seen, states)
        way = np.concatenate([np.repeat(states[:1, THING], 3, axis=0), states[:, THING]]).astype(np.float64)
        times = np.concatenate([[0, 1, 2], steps])
        now = np.array([np.interp(step, times, place) for place in way.T])
        for index in np.flatnonzero(steps > step):  # plainly: the length that is left behind each, walked step by step
            walk = [now, *(states[k, THING].astype(np.float64) for k in np.flatnonzero(steps > step))]
            lengths = [float(np.linalg.norm(b - a)) for a, b in zip(walk, walk[1:], strict=False)]
            passed = sum(lengths[: np.flatnonzero(steps > step).tolist().index(index) + 1])
            gap = seen[THING] - now
            share = (1.0 - passed / sum(lengths)) * max(0.0, 1.0 - 0.03 / np.linalg.norm(gap))
            for part in (HAND, THING):
                wanted = states[index, part] + share * gap
                np.testing.assert_allclose(moved[index, part], wanted, atol=1e-4)
        np.testing.assert_allclose(moved[-2:, THING], states[-2:, THING], atol=1e-6)
        others = np.setdiff1d(np.arange(23), [0, 1, 9, 10])
        np.testing.assert_array_equal(moved[:, others], states[:, others])
    np.testing.assert_array_equal(from_where_it_is(steps, 38, seen, states), states)  # it should be there
    seen[THING] = states[0, THING] + [0.02, -0.02]
    np.testing.assert_array_equal(from_where_it_is(steps, 8, seen, states), states)  # that is made good at once


def test_planners_are_given_the_corrected_way_and_measured_by_the_wanted_one(facts):
    problem = load_task("can-between").task.problem(facts)
    plain = load_task("can-between", {"from_where_it_is": "false"}).task.problem(facts)
    assert plain.waypoints.corrected is None
    schedule, uncorrected = (GoalSchedule(each.waypoints, 1, facts.std, slot="due") for each in (problem, plain))
    seen = played(20, scripts.place())[0]
    for step in range(80):
        beside = seen.copy()
        beside[THING] += [0.0, 0.06] if step else [0.0, 0.0]
        for each in (schedule, uncorrected):
            each.advance(0, beside)
        given, wanted = (each.goals([0], [3], 8).states[0, 0] for each in (schedule, uncorrected))
        assert not 1 <= step <= 30 or given[10] > wanted[10] + 1e-4, "the can lies beside where it should"
        np.testing.assert_array_equal(schedule.states(0), uncorrected.states(0))
        assert schedule.missed[0] == uncorrected.missed[0]
    schedule.reset(0)
    uncorrected.reset(0)
    for each in (schedule, uncorrected):
        each.advance(0, seen)
    np.testing.assert_array_equal(schedule.goals([0], [3], 8).states, uncorrected.goals([0], [3], 8).states)


def test_what_is_wrong_is_said(facts):
    with pytest.raises(UserError, match="place_x and place_y belong together"):
        load_task("can-throw", {"place_x": "0.1"}).task.problem(facts)
    with pytest.raises(UserError, match="tolerance: must be in"):
        load_task("can-place", {"tolerance": "0"})
    solved = Facts(CAN, facts.dimensions, 0.05, facts.trajectories.select([0, 2]), facts.std, 400)
    with pytest.raises(UserError, match="has no failed episode"):
        load_task("can-throw").task.problem(solved)
    with pytest.raises(UserError, match="made for PickPlaceCan; the run was trained on Hopper-v4"):
        load_task("can-place").task.problem(Facts("Hopper-v4", facts.dimensions, 0.05, facts.trajectories, facts.std))


def test_an_end_within_ranges():
    success = EndsWithin((0, 2), ((-1.0, 1.0), (0.5, np.inf)), ("x", "z"))
    assert success.succeeded(np.array([[9, 9, 0], [0, 9, 0.6]], np.float32), True, 0.05)
    assert not success.succeeded(np.array([[0, 9, 0.6], [2, 9, 0.6]], np.float32), False, 0.05)
    assert not success.succeeded(np.array([[0, 9, 0.6], [0, 9, 0.4]], np.float32), False, 0.05)
    assert success.details(np.array([[1, 2, 3]], np.float32), False, 0.05) == {"end_x": 1.0, "end_z": 3.0}
    assert success.describe() == "at the end x is from -1 to 1 and z is from 0.5 to inf"
    with pytest.raises(UserError, match="x is to end from 2 to 1"):
        EndsWithin((0,), ((2.0, 1.0),), ("x",))
