"""The controller of scripted experts."""

import numpy as np
import pytest

from m3pc_ray.collection.scripted.motion import Scene, towards, turn_about_z
from tests.collection.scripted.toy_robot import ToyRobot, about_z, product


@pytest.mark.parametrize("symmetry", [1, 2, 4])
def test_the_smallest_turn_is_the_smallest_of_all_that_would_do(symmetry):
    rng = np.random.default_rng(symmetry)
    for now, then in rng.uniform(-np.pi, np.pi, (200, 2)):
        vectors = [np.array([np.cos(angle), np.sin(angle), 0.3]) for angle in (now, then)]
        turn = turn_about_z(*vectors, symmetry)
        turns = then - now + 2 * np.pi / symmetry * np.arange(-9, 10)
        assert abs(turn) == pytest.approx(np.abs(turns).min(), abs=1e-9)
        assert np.abs(turns - turn).min() < 1e-9


def test_actions_are_bounded_and_point_at_the_target():
    scene = Scene.of(ToyRobot([0.2, 0.3, 0.83], 0.4).observation())
    far = towards(scene, scene.hand + [0.3, -0.3, 0.01], 3.0, 1.0, speed=0.7)
    np.testing.assert_allclose(far, [0.7, -0.7, 0.4, 0.0, 0.0, 1.0, 1.0], atol=1e-6)
    assert far.dtype == np.float32
    there = towards(scene, scene.hand, 0.0, -1.0)
    np.testing.assert_allclose(there, [0, 0, 0, 0, 0, 0, -1], atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_tilted_hand_is_turned_back(axis):
    tilt = np.zeros(4)
    tilt[axis], tilt[3] = np.sin(0.1), np.cos(0.1)  # by 0.2 rad
    seen = ToyRobot([0, 0, 0.83], 0.0).observation()
    seen[3:7] = product(tilt, product(about_z(0.6), seen[3:7]))
    action = towards(Scene.of(seen), seen[:3], 0.0, -1.0)
    wanted = np.zeros(3)
    wanted[axis] = -2.0 * np.sin(0.2) / 0.5
    np.testing.assert_allclose(action[3:6], wanted, atol=1e-6)
