"""The built-in tasks: what they want, in the units they say, and what comes out for a data set."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

import numpy as np
import pytest

from m3pc_ray.configuration import shipped_configs
from m3pc_ray.environments.observation_names import observation_names
from m3pc_ray.errors import UserError
from m3pc_ray.goals.frequency import dominant_frequency
from m3pc_ray.goals.halfcheetah_flip import HalfCheetahFlip
from m3pc_ray.goals.hopper_wiggle import HopperWiggle
from m3pc_ray.goals.setting_ranges import RANGES
from m3pc_ray.goals.task import Facts, GoalTask
from m3pc_ray.goals.tasks import TASKS, load_task, shipped_goals, task_settings
from m3pc_ray.goals.walker2d_split import Walker2dSplit
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from m3pc_ray.trajectories.resolve import load
from m3pc_ray.trajectories.validation import environment_facts, metadata_of

SECONDS = {"Hopper-v4": 0.008, "Walker2d-v4": 0.008, "HalfCheetah-v4": 0.05}
SIZES = {"Hopper-v4": 11, "Walker2d-v4": 17, "HalfCheetah-v4": 17}
BUILT_IN = [(HopperWiggle, "Hopper-v4"), (Walker2dSplit, "Walker2d-v4"), (HalfCheetahFlip, "HalfCheetah-v4")]


def make_facts(environment_id: str, time_limit: int = 1000) -> Facts:
    """The bundled Hopper data; else smooth made-up episodes."""
    size = SIZES[environment_id]
    if environment_id == "Hopper-v4":
        data = load("bundled/hopper")
    else:
        rng = np.random.default_rng(0)
        episodes, length = 6, 200
        phase = rng.uniform(0, 6, (episodes, 1, size)) + np.arange(length)[None, :, None] * rng.uniform(0.02, 0.1, size)
        states = np.sin(phase).astype(np.float32)
        data = Trajectories(
            observations=states.reshape(-1, size),
            actions=np.zeros((episodes * length, 6), np.float32),
            rewards=np.zeros(episodes * length, np.float32),
            episode_starts=np.arange(episodes + 1, dtype=np.int64) * length,
            episode_ends=np.full(episodes, EpisodeEnd.TIME_LIMIT, np.int8),
            final_observations=states[:, -1],
            metadata=metadata_of(environment_facts(environment_id), "made-up", origin="made by a test"),
        )
    names = observation_names(environment_id, size)
    std = data.observations.std(axis=0)
    return Facts(environment_id, names, SECONDS[environment_id], data, std, time_limit)


def fixed_columns(task: GoalTask, facts: Facts) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Steps at which the task wants something, and the columns it fixes by name; all others must be free."""
    wanted = task.wanted(facts)
    assert wanted.dtype == np.float32
    assert wanted.shape[1] == facts.observation_dim
    steps = np.flatnonzero(~np.isnan(wanted).all(axis=1))
    assert steps.tolist() == list(range(steps[0], len(wanted))), "from its start to its end without a gap"
    columns = {d.name: wanted[steps, i] for i, d in enumerate(facts.dimensions) if not np.isnan(wanted[:, i]).all()}
    assert not any(np.isnan(column).any() for column in columns.values())
    return steps, columns


@pytest.mark.parametrize("frequency", [1.0, 2.0, 3.3])
def test_the_wiggle_is_a_sine_of_the_frequency_asked_for(frequency: float) -> None:
    task = HopperWiggle(frequency_hz=frequency, amplitude=0.1, center=0.2, start_step=7, cycles=5)
    steps, columns = fixed_columns(task, make_facts("Hopper-v4"))
    assert set(columns) == {"foot_joint", "foot_joint_velocity"}
    angle, velocity = columns["foot_joint"], columns["foot_joint_velocity"]
    assert steps[0] == 7
    assert (len(steps) - 1) * 0.008 == pytest.approx(5 / frequency, abs=0.008)
    assert dominant_frequency(angle, 0.008) == pytest.approx(frequency, rel=0.02)
    assert angle[0] == pytest.approx(0.2)
    assert (angle.min(), angle.max()) == pytest.approx((0.1, 0.3), abs=1e-3)
    np.testing.assert_allclose(np.gradient(angle, 0.008)[1:-1], velocity[1:-1], atol=0.01 * np.abs(velocity).max())


def test_the_split_is_a_ramp_that_is_held() -> None:
    task = Walker2dSplit(start_step=5, ramp_steps=40, hold_steps=10, start_angle=-0.1, final_angle=-1.5)
    steps, columns = fixed_columns(task, make_facts("Walker2d-v4"))
    assert set(columns) == {"thigh_joint", "thigh_joint_velocity"}
    angle, velocity = columns["thigh_joint"], columns["thigh_joint_velocity"]
    assert (steps[0], steps[-1]) == (5, 55)
    np.testing.assert_allclose(angle, [-0.1 - 1.4 * min(k / 40, 1.0) for k in range(51)], atol=1e-6)
    np.testing.assert_allclose(velocity[:40], np.diff(angle)[:40] / 0.008, rtol=1e-3)
    assert (velocity[40:] == 0).all()
    with pytest.raises(UserError, match="the thigh must move"):
        Walker2dSplit(start_angle=-1.0, final_angle=-1.0).wanted(make_facts("Walker2d-v4"))


def test_the_flip_is_a_turn_with_a_jump() -> None:
    task = HalfCheetahFlip(start_step=4, turn_steps=20, hold_steps=6, lift=0.3, rest_height=-0.1, lying_height=-0.5)
    steps, columns = fixed_columns(task, make_facts("HalfCheetah-v4"))
    assert set(columns) == {"front_tip_angle", "front_tip_height"}
    angle, height = columns["front_tip_angle"], columns["front_tip_height"]
    assert (steps[0], steps[-1]) == (4, 30)
    np.testing.assert_allclose(angle[:21], np.linspace(0, task.final_angle, 21), atol=1e-6)
    assert (angle[20:] == angle[20]).all()
    assert angle[-1] > np.pi, "more than half a turn"
    assert (height[0], height[10], height[20]) == pytest.approx((-0.1, -0.3 + 0.3, -0.5), abs=1e-6)
    np.testing.assert_allclose(height[20:], -0.5, atol=1e-6)


@pytest.mark.parametrize(("kind", "environment_id"), BUILT_IN)
@pytest.mark.parametrize("every", [1, 4])
def test_free_dimensions_from_the_model_or_from_the_data(kind: type[GoalTask], environment_id: str, every: int) -> None:
    facts = make_facts(environment_id)
    with_model = kind(every=every, free_dimensions="model").problem(facts)
    with_data = kind(every=every, free_dimensions="data", data_episodes=3).problem(facts)
    for problem in (with_model, with_data):
        asked = problem.wanted[problem.waypoints.steps]
        mentioned = ~np.isnan(asked)
        np.testing.assert_array_equal(problem.waypoints.states[mentioned], asked[mentioned])
        assert (np.diff(problem.waypoints.steps) == every).all()
        assert problem.waypoints.steps[-1] > problem.episode_steps - every
        assert problem.success.describe()
        assert (problem.key_dimension, *problem.plotted_dimensions) == (
            facts.index(kind.key),
            *(facts.index(name) for name in kind.plotted),
        )
        if environment_id != "Hopper-v4":  # made-up data has no such steps
            assert problem.warnings or every > 1
    assert np.isnan(with_model.waypoints.states).any(axis=1).all()
    assert with_data.waypoints.steps[0] == every
    assert not np.isnan(with_data.waypoints.states).any()
    assert facts.trajectories.metadata.name in with_data.waypoints.source, "parts taken from data name the data"
    best = facts.trajectories.select(facts.trajectories.best_first()[:3]).observations
    free = np.isnan(with_data.wanted[with_data.waypoints.steps])
    for state, own in zip(with_data.waypoints.states, free, strict=True):
        assert (best[:, own] == state[own]).all(axis=1).any(), "the free part is one state of the chosen episodes"


@pytest.mark.parametrize(("kind", "environment_id"), BUILT_IN)
def test_another_environment_is_refused(kind: type[GoalTask], environment_id: str) -> None:
    other = "Hopper-v4" if environment_id != "Hopper-v4" else "Walker2d-v4"
    with pytest.raises(UserError, match=rf"is made for {environment_id[:-3]}; the run was trained on {other}"):
        kind().problem(make_facts(other))


def test_every_numeric_setting_has_a_range_and_keeps_to_it() -> None:
    for kind in TASKS.values():
        for name, annotation in task_settings(kind).items():
            if annotation in (int, float):
                assert name in RANGES, f"{kind.name}: {name}"
    for settings in ({"every": 0}, {"frequency_hz": 0.0}, {"cycles": -1.0}, {"start_step": -1}, {"amplitude": np.inf}):
        (name,) = settings
        with pytest.raises(UserError, match=rf"task hopper-wiggle: {name}: must be in"):
            HopperWiggle(**settings)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"ramp_steps: must be in \[1, inf\), not 0"):
        load_task("walker2d-split", {"ramp_steps": "0"})


def test_unknown_names_and_bad_values_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hopper-wiggel.*did you mean hopper-wiggle"):
        load_task("hopper-wiggel")
    with pytest.raises(UserError, match="frequency: no such setting of task hopper-wiggle; did you mean frequency_hz"):
        load_task("hopper-wiggle", {"frequency": "3"})
    with pytest.raises(UserError, match="command line: every: must be a whole number, not 2.5"):
        load_task("hopper-wiggle", {"every": "2.5"})
    with pytest.raises(UserError, match="free_dimensions: must be data or model, not nothing"):
        load_task("hopper-wiggle", {"free_dimensions": ""})
    with pytest.raises(UserError, match="no such file; the shipped ones are can-between, can-place"):
        load_task(str(tmp_path / "none.yaml"))
    own = tmp_path / "own.yaml"
    own.write_text("task: hoper\n")
    with pytest.raises(UserError, match="own.yaml: task: must be one of hopper-wiggle, .*not 'hoper'"):
        load_task(str(own))
    own.write_text("task: hopper-wiggle\nbackward: last\n")
    with pytest.raises(UserError, match="own.yaml: backward: must hold settings of the planner"):
        load_task(str(own))


def test_shipped_files_hold_settings_of_their_task() -> None:
    carried = ["can-between", "can-place", "can-throw"]
    assert shipped_goals() == [*carried, "halfcheetah-flip", "hopper-wiggle", "walker2d-split"]
    for name in shipped_goals():
        found = load_task(name)
        assert found.task.name == ("can-carry" if name in carried else name)
        path = shipped_configs() / "goals" / f"{name.replace('-', '_')}.yaml"
        assert f"--task {name}" in path.read_text()
        for word in path.read_text().split("--set ")[1:]:  # an example of a setting must be one
            setting = word.split("=")[0]
            assert setting in task_settings(type(found.task))
        assert load_task(str(path)) == found


def test_overrides_beat_the_file_and_the_file_beats_defaults(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("task: hopper-wiggle\nfrequency_hz: 4\namplitude: 0.3\nbackward:\n  goal_slot: last\n")
    found = load_task(str(own), {"frequency_hz": "5"})
    assert found.task == dataclasses.replace(HopperWiggle(), frequency_hz=5.0, amplitude=0.3)
    assert found.backward == {"goal_slot": "last"}
    assert typing.cast(HopperWiggle, found.task).cycles == HopperWiggle().cycles
