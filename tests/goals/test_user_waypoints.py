"""Waypoints of a user's own as a task: from file to problem."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.goals.success import VisitsWaypoints
from m3pc_ray.goals.tasks import load_task
from m3pc_ray.goals.user_waypoints import UserWaypoints
from tests.goals.test_tasks import make_facts


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_file_beside_the_yaml_that_names_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    write(folder / "way.csv", "step,foot_joint,torso_angle\n3,0.4,\n9,-0.4,0.1\n")
    yaml = write(folder / "own.yaml", "task: waypoints\nfile: way.csv\nkey_dimension: torso_angle\n")
    problem = load_task(str(yaml)).task.problem(make_facts("Hopper-v4"))
    assert problem.waypoints.steps.tolist() == [3, 9]
    assert problem.episode_steps == 9
    assert (problem.key_dimension, problem.plotted_dimensions) == (1, (1, 4))
    assert np.argwhere(~np.isnan(problem.wanted)).tolist() == [[3, 4], [9, 1], [9, 4]]


@pytest.mark.parametrize("suffix", ["csv", "CSV", "parquet"])
def test_a_table_is_a_task_of_its_own(tmp_path: Path, suffix: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path = tmp_path / f"way.{suffix}"
    if suffix == "parquet":
        parquet.write_table(pa.table({"foot_joint": [0.1, 0.2]}), path)
    else:
        write(path, "foot_joint\n0.1\n0.2\n")
    problem = load_task(str(path), {"every": "5"}).task.problem(make_facts("Hopper-v4"))
    assert problem.waypoints.steps.tolist() == [5, 10]
    assert problem.waypoints.fixed.nonzero()[0].tolist() == [4] == [problem.key_dimension]


def test_free_dimensions_from_the_data(tmp_path: Path) -> None:
    path = write(tmp_path / "way.csv", "step,foot_joint\n5,0.1\n9,0.2\n")
    facts = make_facts("Hopper-v4")
    problem = load_task(str(path), {"free_dimensions": "data"}).task.problem(facts)
    assert not np.isnan(problem.waypoints.states).any()
    np.testing.assert_allclose(problem.waypoints.states[:, 4], [0.1, 0.2])
    assert np.isnan(problem.wanted[:, :4]).all(), "only what was asked for is measured"
    assert facts.trajectories.metadata.name in problem.waypoints.source


def test_goals_that_drift(tmp_path: Path) -> None:
    path = write(
        tmp_path / "way.py",
        "import numpy as np\nfrom m3pc_ray.goals.waypoints import Waypoints\n"
        "def drift(environment_id, size):\n"
        "    states = np.zeros((3, size), np.float32)\n"
        "    return Waypoints(np.array([2, 4, 6]), states, '', lambda step, seen: states + step)\n",
    )
    facts = make_facts("Hopper-v4")
    problem = load_task(f"{path}:drift").task.problem(facts)
    assert problem.waypoints.source == f"{path}:drift"
    np.testing.assert_array_equal(problem.waypoints.now(3, np.zeros(11, np.float32)), np.full((3, 11), 3.0))
    # Reached where the goals were when due, which is far from where they stood at first.
    wanted = problem.wanted.copy()
    wanted[[2, 4, 6]] = np.array([2, 4, 6])[:, np.newaxis]
    reached = np.arange(7, dtype=np.float32)[:, np.newaxis].repeat(11, axis=1)
    assert isinstance(problem.success, VisitsWaypoints)
    assert problem.success.where_they_were(wanted).succeeded(reached, False, 0.008)
    assert not problem.success.succeeded(reached, False, 0.008)
    with pytest.raises(UserError, match="waypoints drift, so free_dimensions must be model"):
        load_task(f"{path}:drift", {"free_dimensions": "data"}).task.problem(facts)


def test_waypoints_after_the_time_limit_are_told_and_not_measured(tmp_path: Path) -> None:
    path = write(tmp_path / "way.csv", "step,foot_joint\n5,0.1\n9,0.2\n30,0.2\n")
    facts = make_facts("Hopper-v4", time_limit=20)
    problem = UserWaypoints(file=str(path)).problem(facts)
    assert any("waypoint 3 is due after the environment's time limit of 20" in each for each in problem.warnings)
    assert problem.episode_steps == 20
    assert isinstance(problem.success, VisitsWaypoints)
    assert problem.success.waypoints.steps.tolist() == [5, 9]
    assert len(problem.waypoints) == 3, "planners know of it"
    late = dataclasses.replace(facts, time_limit=4)
    with pytest.raises(UserError, match="first waypoint is due at step 5, after the environment's time limit of 4"):
        UserWaypoints(file=str(path)).problem(late)


def test_mistakes_are_explained(tmp_path: Path) -> None:
    facts = make_facts("Hopper-v4")
    path = write(tmp_path / "way.csv", "step,foot_joint\n5,0.1\n")
    with pytest.raises(UserError, match="key_dimension is 'foot'; Hopper-v4 has no such dimension"):
        load_task(str(path), {"key_dimension": "foot"}).task.problem(facts)
    with pytest.raises(UserError, match="file is empty; name a FILE.csv"):
        UserWaypoints().problem(facts)
    with pytest.raises(UserError, match="visited_share: must be in"):
        load_task(str(path), {"visited_share": "1.5"})
    with pytest.raises(UserError, match="unknown column 'wing'"):
        UserWaypoints(file=str(write(tmp_path / "bad.csv", "wing\n1\n"))).problem(facts)
