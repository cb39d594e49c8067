"""Names of an action's entries, from the simulator's model."""

import gymnasium

from m3pc_ray.environments.action_names import action_names
from m3pc_ray.environments.make import make_environment


def test_they_are_the_joints_that_are_driven() -> None:
    assert action_names(make_environment("Hopper-v4"), 3) == ["thigh joint", "leg joint", "foot joint"]
    assert action_names(make_environment("HalfCheetah-v4"), 6)[:2] == ["bthigh", "bshin"]


def test_others_are_numbered() -> None:
    assert action_names(make_environment("Hopper-v4"), 2) == ["action 0", "action 1"]
    assert action_names(gymnasium.make("Pendulum-v1"), 1) == ["action 0"]
