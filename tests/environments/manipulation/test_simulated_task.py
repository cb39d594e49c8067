"""The tasks in robosuite itself; run by `make test-manipulation`."""

import importlib.util

import numpy as np
import pytest

from m3pc_ray.environments import EnvironmentGroup, make_environment, specification
from m3pc_ray.environments.manipulation import observation
from m3pc_ray.environments.manipulation.tasks import TASKS
from m3pc_ray.environments.poses import current_positions, seconds_per_step
from m3pc_ray.environments.rendering import render_positions, working_backend

pytestmark = [
    pytest.mark.manipulation,
    pytest.mark.skipif(
        importlib.util.find_spec("robosuite") is None, reason="needs robosuite (make test-manipulation)"
    ),
]
FULL = [task for task in TASKS.values() if not task.position_only]


def actions(seed: int, steps: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, 7)).astype(np.float32)


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.environment_id)
def test_a_seed_tells_everything_and_signs_never_jump(task):
    environment, other = make_environment(task.environment_id), make_environment(task.environment_id)
    spec = specification(environment)
    assert (spec.observation_dim, spec.action_dim, spec.time_limit) == (task.observation_dim, 7, 400)
    episodes = []
    for which, before in ((environment, 0), (other, 3), (environment, 5)):
        which.reset()
        for action in actions(1, before):
            which.step(action)
        seen = [which.reset(seed=7)[0]]
        seen += [which.step(action)[0] for action in actions(2, 40)]
        episodes.append(np.array(seen))
    np.testing.assert_array_equal(episodes[0], episodes[1])
    np.testing.assert_array_equal(episodes[0], episodes[2])
    assert episodes[0].dtype == np.float32
    different, _ = environment.reset(seed=8)
    assert np.abs(different - episodes[0][0]).max() > 1e-3
    for column in observation.first_rotations(task):
        rotations = episodes[0][:, column : column + 4]
        np.testing.assert_allclose(np.linalg.norm(rotations, axis=1), 1.0, atol=1e-5)
        assert (np.sum(rotations[1:] * rotations[:-1], axis=1) > 0.9).all()
    environment.close()
    other.close()


@pytest.mark.parametrize("task", FULL, ids=lambda task: task.environment_id)
def test_observations_are_robosuites_own_of_the_same_moment(task):
    """Its sensors are asked twice without a step between, since some use what others said before."""
    import robosuite

    environment = make_environment(task.environment_id)
    environment.reset(seed=3)
    simulation = environment.unwrapped.simulation
    theirs = robosuite.make(
        task.robosuite_name, robots="Panda", has_renderer=False, has_offscreen_renderer=False, use_camera_obs=False
    )
    theirs.reset()
    theirs.reset_from_xml_string(simulation.sim.model.get_xml())
    for action in actions(4, 25):
        seen, *_ = environment.step(action)
        theirs.sim.set_state_from_flattened(simulation.sim.get_state().flatten())
        theirs.sim.forward()
        for _ in range(2):
            told = theirs._get_observations(force_update=True)
        thing = task.object_name
        keys = ["robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", f"{thing}_pos", f"{thing}_quat"]
        if task.relative_rotation:
            keys += [f"{thing}_to_robot0_eef_pos", f"{thing}_to_robot0_eef_quat"]
            wanted = np.concatenate([told[key] for key in keys])
        else:
            wanted = np.concatenate([*(told[key] for key in keys), -told["gripper_to_cube_pos"]])
        for column in observation.first_rotations(task):
            part = slice(column, column + 4)
            wanted[part] *= np.sign(wanted[part] @ seen[part])
        np.testing.assert_allclose(seen, wanted, atol=2e-5)
    environment.close()
    theirs.close()


def move_object(environment, position) -> None:
    """Put the object somewhere, upright and at rest."""
    simulation = environment.unwrapped.simulation
    thing = simulation.cube if hasattr(simulation, "cube") else None
    if thing is None:
        (thing,) = [
            o for o in (getattr(simulation, "objects", None) or simulation.nuts) if o.name == simulation.obj_to_use
        ]
    simulation.sim.data.set_joint_qpos(thing.joints[0], np.array([*position, 1, 0, 0, 0]))
    simulation.sim.data.set_joint_qvel(thing.joints[0], np.zeros(6))
    simulation.sim.forward()


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.environment_id)
def test_success_is_worth_one_and_ends_the_episode(task):
    environment = make_environment(task.environment_id)
    _, before = environment.reset(seed=0)
    still = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)
    _, reward, terminated, truncated, info = environment.step(still)
    assert (before["success"], reward, terminated, truncated, info["success"]) == (False, 0.0, False, False, False)
    simulation = environment.unwrapped.simulation
    if task.robosuite_name == "Lift":
        goal = [0.0, 0.0, 1.1]
    elif task.robosuite_name == "PickPlaceCan":
        goal = simulation.target_bin_placements[simulation.object_id] + [0, 0, 0.06]
    else:
        goal = simulation.sim.data.body_xpos[simulation.peg1_body_id] * [1, 1, 0] + [
            0,
            0,
            simulation.table_offset[2] + 0.03,
        ]
    move_object(environment, goal)
    _, reward, terminated, truncated, info = environment.step(still)
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    environment.close()


def test_a_group_drives_several_and_time_limits_cut():
    with EnvironmentGroup("robosuite/Lift-v1", 2, time_limit=5) as group:
        first = [group.reset(row, seed=row) for row in range(2)]
        assert np.abs(first[0] - first[1]).max() > 1e-3
        for step in range(5):
            transitions = group.step(actions(step, 2))
        assert transitions.truncated.all()
        assert not transitions.terminated.any()
        assert not group.running.any()


def test_what_was_played_can_be_drawn():
    if working_backend() is None:
        pytest.skip("MuJoCo cannot draw here")
    environment = make_environment("robosuite/PickPlaceCan-v1")
    environment.reset(seed=0)
    positions = [current_positions(environment)]
    for _ in range(12):
        environment.step(np.array([1, 0, 0, 0, 0, 0, -1], np.float32))
    positions.append(current_positions(environment))
    before, after = render_positions(environment, np.stack(positions), width=160, height=120)
    assert before.shape == (120, 160, 3)
    assert before.std() > 20
    changed = np.abs(before.astype(int) - after).max(axis=2) > 30
    assert 0.002 < changed.mean() < 0.3  # the arm has moved, the room has not
    assert seconds_per_step(environment) == 0.05
    environment.close()
