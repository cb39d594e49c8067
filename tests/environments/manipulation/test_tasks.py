"""What is known of manipulation tasks without robosuite."""

import importlib.util

import pytest

from m3pc_ray.environments import make_environment
from m3pc_ray.environments.manipulation.tasks import TASKS
from m3pc_ray.environments.observation_names import observation_names
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.validation import environment_facts

SIZES = {
    "robosuite/Lift-v1": 19,
    "robosuite/PickPlaceCan-v1": 23,
    "robosuite/PickPlaceCan-limited-v1": 12,
    "robosuite/NutAssemblySquare-v1": 23,
}


def test_sizes_are_those_of_robomimics_low_dimensional_observations():
    assert {name: task.observation_dim for name, task in TASKS.items()} == SIZES
    for name, size in SIZES.items():
        facts = environment_facts(name)
        assert (len(facts.observation_low), len(facts.action_low), facts.max_episode_steps) == (size, 7, 400)
        names = [dimension.name for dimension in observation_names(name, size)]
        assert len(set(names)) == size
        assert not any(entry.startswith("observation_") for entry in names)
        assert names[8:10] == ["right_finger", {"L": "cube_x", "P": "can_x", "N": "nut_x"}[name[len("robosuite/")]]]


@pytest.mark.skipif(importlib.util.find_spec("robosuite") is not None, reason="robosuite is here")
def test_without_robosuite_the_error_says_how_to_get_it():
    with pytest.raises(UserError, match=r"Lift-v1 needs robosuite .*`make manipulation-env`"):
        make_environment("robosuite/Lift-v1")
