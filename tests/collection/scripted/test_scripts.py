"""What each expert does to the thing, played with kinematics alone; `tests/environments/manipulation` has robosuite."""

import numpy as np
import pytest

from m3pc_ray.collection.scripted import scripts
from m3pc_ray.collection.scripted.expert import ScriptedExpert
from tests.collection.scripted.toy_robot import ToyRobot

STEPS = 500


def play(script, robot: ToyRobot, number: int, clumsiness: float = 0.0, hesitation: float = 0.0) -> list[np.ndarray]:
    """Positions of the thing (3,) after every step until the script is over."""
    expert = ScriptedExpert([script], 0, clumsiness, hesitation)
    places = []
    for step in range(STEPS):
        action = expert.plan(robot.observation(), step == 0, streams=[number]).actions[0]
        if expert.over(0):
            return places
        robot.step(action)
        places.append(robot.thing.copy())
    raise AssertionError(f"not over after {STEPS} steps")


@pytest.mark.parametrize("number", range(4))
def test_the_cube_is_lifted_and_gripped_across_its_faces(number):
    angle = np.random.default_rng(number).uniform(-np.pi, np.pi)
    robot = ToyRobot([0.02, -0.01, 0.83], angle)
    places = play(scripts.lift(), robot, number)
    assert places[-1][2] > 0.83 + 0.1
    across = (robot.yaw + np.pi / 2 - robot.angle) % (np.pi / 2)
    assert min(across, np.pi / 2 - across) < 0.12


@pytest.mark.parametrize("number", range(4))
def test_the_can_is_placed_or_thrown_from_the_same_place(number):
    start = [*np.random.default_rng(number).uniform([0.0, -0.35], [0.15, -0.15]), 0.86]
    placed = play(scripts.place(), ToyRobot(start, 0.0), number)[-1]
    assert 0.1 < placed[0] < 0.295
    assert 0.28 < placed[1] < 0.525
    thrown = play(scripts.throw(), ToyRobot(start, 0.0), number)
    assert thrown[-1][1] < -0.495
    assert max(place[1] for place in thrown) < 0.0


@pytest.mark.parametrize("number", range(4))
def test_the_nut_goes_over_the_peg_with_its_sides_along_the_pegs(number):
    robot = ToyRobot([-0.1, 0.17, 0.83], np.random.default_rng(number).uniform(-np.pi, np.pi), handle=0.054)
    play(scripts.assemble(), robot, number)
    np.testing.assert_allclose(robot.thing[:2], [0.23, 0.10], atol=0.015)
    assert abs((robot.angle + np.pi / 4) % (np.pi / 2) - np.pi / 4) < 0.12
    assert np.cos(robot.angle) < 0.2  # the handle does not point away from the arm


def test_a_clumsy_expert_misses_and_comes_to_an_end_all_the_same():
    missed = []
    for number in range(20):
        robot = ToyRobot([0.02, -0.01, 0.83], 0.3)
        missed.append(play(scripts.lift(), robot, number, clumsiness=0.03)[-1][2] < 0.85)
    assert np.mean(missed) > 0.5
    robot = ToyRobot([-0.1, 0.17, 0.83], 0.0, handle=0.054, reach=0.0)  # a nut that cannot be gripped
    assert play(scripts.assemble(), robot, 0)[-1][0] == -0.1
    assert abs(robot.hand[0]) < 0.3  # the hand does not run after it


def test_episodes_take_scripts_in_turn_and_rows_do_not_matter():
    expert = ScriptedExpert([scripts.place(), scripts.throw()], first_stream=7)
    robots = {number: ToyRobot([0.1, -0.25, 0.86], 0.0) for number in range(7, 11)}
    for step in range(90):
        seen = np.stack([robot.observation() for robot in robots.values()])
        actions = expert.plan(seen, [step == 0] * 4, rows=[3, 1, 0, 2], streams=list(robots)).actions
        for robot, action in zip(robots.values(), actions, strict=True):
            robot.step(action)
    ends = [robot.hand[1] > -0.25 for robot in robots.values()]
    assert ends == [True, False, True, False]
    alone = ToyRobot([0.1, -0.25, 0.86], 0.0)
    expert.reset()
    for step in range(90):
        alone.step(expert.plan(alone.observation(), step == 0, streams=[9]).actions[0])
    np.testing.assert_array_equal(alone.hand, robots[9].hand)


@pytest.mark.parametrize("number", range(4))
def test_who_hesitates_goes_at_many_speeds_and_arrives_all_the_same(number):
    start = [*np.random.default_rng(number).uniform([0.0, -0.35], [0.15, -0.15]), 0.86]

    def speeds(hesitation: float) -> np.ndarray:
        """Of the can along y while it is carried from y = 0 to 0.2, metres a step."""
        way = np.array(play(scripts.place(), ToyRobot(start, 0.0), number, hesitation=hesitation))
        assert 0.28 < way[-1][1] < 0.525
        moved = np.diff(way[:, 1])
        return moved[(way[1:, 1] > 0.0) & (way[1:, 1] < 0.2)]

    steady, hesitant = speeds(0.0), speeds(0.3)
    assert np.ptp(steady) < 1e-9
    assert hesitant.max() <= steady.max() + 1e-9
    assert hesitant.min() >= 0.1 * steady.min() - 1e-9
    assert np.ptp(hesitant) > 0.4 * steady.mean()
    assert len(hesitant) > len(steady)
