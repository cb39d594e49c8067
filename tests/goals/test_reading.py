from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from m3pc_ray.environments.observation_names import observation_names
from m3pc_ray.errors import UserError
from m3pc_ray.goals.reading import read_waypoints, write_waypoints
from m3pc_ray.goals.waypoints import Waypoints

HOPPER, DIM = "Hopper-v4", 11
NAMES = [dimension.name for dimension in observation_names(HOPPER, DIM)]


def read_text(folder: Path, text: str, every: int = 1) -> Waypoints:
    path = folder / "goals.csv"
    path.write_text(text, encoding="utf-8")
    return read_waypoints(str(path), HOPPER, DIM, every)


def read_columns(folder: Path, columns: dict[str, Any]) -> Waypoints:
    path = folder / "goals.parquet"
    parquet.write_table(pa.table(columns), path)
    return read_waypoints(str(path), HOPPER, DIM)


def test_names_indices_and_blanks(tmp_path: Path) -> None:
    waypoints = read_text(tmp_path, "step, foot_joint,0\n5,0.5,\n 7 ,, 1.25\n\n\n")
    expected = np.full((2, DIM), np.nan, dtype=np.float32)
    expected[0, NAMES.index("foot_joint")] = 0.5
    expected[1, 0] = 1.25
    assert waypoints.steps.tolist() == [5, 7]
    np.testing.assert_array_equal(waypoints.states, expected)
    assert waypoints.states.dtype == np.float32
    assert waypoints.source == str(tmp_path / "goals.csv")
    assert waypoints.moving is None


def test_without_steps_they_come_every_so_often(tmp_path: Path) -> None:
    text = "0\n1.0\n1.1\n1.2\n"
    assert read_text(tmp_path, text).steps.tolist() == [1, 2, 3]
    assert read_text(tmp_path, text, every=5).steps.tolist() == [5, 10, 15]
    with pytest.raises(UserError, match="every is 0"):
        read_text(tmp_path, text, every=0)


def test_parquet_nulls_and_whole_numbers(tmp_path: Path) -> None:
    columns = {"10": [1, None, 3], "step": [2.0, 4.0, 6.0], "leg_joint": [0.5, 0.25, float("nan")]}
    waypoints = read_columns(tmp_path, columns)
    assert waypoints.steps.tolist() == [2, 4, 6]
    np.testing.assert_array_equal(waypoints.states[:, 10], [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(waypoints.states[:, NAMES.index("leg_joint")], [0.5, 0.25, np.nan])
    assert np.flatnonzero(waypoints.fixed).tolist() == [NAMES.index("leg_joint"), 10]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("step,thigh_joit\n1,0\n", ["unknown column 'thigh_joit'", "did you mean thigh_joint", "torso_height"]),
        ("Thigh_Joint\n1\n", ["unknown column 'Thigh_Joint'", "did you mean thigh_joint"]),
        ("11\n0.5\n", ["first line holds numbers", "index from 0 to 10"]),
        ("step,11\n1,0.5\n", ["unknown column '11'", "index from 0 to 10"]),
        ("thigh_joint,2\n1,1\n", ["columns 'thigh_joint' and '2' name the same"]),
        ("step,step,0\n1,1,1\n", ["columns 'step' and 'step' name the same"]),
        ("step\n1\n", ["no column names a dimension", "thigh_joint"]),
        ("0,1\n1,2\n3,abc\n", ["column '1', row 2 (line 3)", "'abc' is no number"]),
        ("0\n1_000\n", ["column '0', row 1 (line 2)", "'1_000' is no number"]),
        ("0\ninf\n", ["column '0', row 1", "'inf' is infinite"]),
        ("0\n1e39\n", ["column '0', row 1", "'1e39' is infinite"]),
        ("step,0\n1.5,0\n", ["column 'step', row 1", "'1.5' is no whole number"]),
        ("step,0\n1,0\n,0\n", ["column 'step', row 2", "a blank cell is no whole number"]),
        ("step,0\n1e20,0\n", ["column 'step', row 1", "'1e20' is no whole number"]),
        ("step,0\n0,0\n", ["column 'step', row 1", "0 is not at least 1"]),
        ("step,0\n5,0\n5,0\n", ["column 'step', row 2 (line 3)", "5 is not a step after 5"]),
        ("0,1\n1,2\n\n3,4\n", ["row 2 (line 3) fixes no dimension"]),
        ("0,1\n1,2\n3\n", ["no readable CSV", "Expected 2 columns, got 1"]),
        ("0,1\n", ["the table is empty"]),
        ("0,1\n,\n,\n", ["the table is empty"]),
        ("", ["no readable CSV"]),
        (",".join(["0.25"] * DIM) + "\n", ["the first line holds numbers; a header that names the columns is needed"]),
    ],
)
def test_bad_tables_name_file_column_and_row(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        read_text(tmp_path, text)
    message = str(raised.value)
    assert message.startswith(str(tmp_path / "goals.csv"))
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("columns", "part"),
    [
        ({"0": [True, False]}, "column '0', row 1: True is no number"),
        ({"0": [1.0, 2.0], "1": [[1.0], [2.0]]}, "column '1', row 1: [1.0] is no number"),
        ({"0": ["0.5", "x"]}, "column '0', row 2: 'x' is no number"),
        ({"0": pa.array([], pa.float32())}, "the table is empty"),
        ({"0": pa.array([None, None], pa.float32())}, "row 1 fixes no dimension"),
        ({"__index_level_0__": [0], "0": [1.0]}, "unknown column '__index_level_0__'"),
    ],
)
def test_bad_parquet(tmp_path: Path, columns: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError) as raised:
        read_columns(tmp_path, columns)
    assert part in str(raised.value)
    assert str(raised.value).startswith(str(tmp_path / "goals.parquet"))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.py:make"])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"a\.\w+: no such file"):
        read_waypoints(str(tmp_path / name), HOPPER, DIM)


def test_a_reference_of_no_known_form(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown ending '.xlsx'; waypoints come from FILE.csv, FILE.parquet or"):
        read_waypoints("goals.xlsx", HOPPER, DIM)
    with pytest.raises(UserError, match=r"Give goals.py:FUNCTION"):
        read_waypoints("goals.py", HOPPER, DIM)
    (tmp_path / "goals.parquet").write_text("no Parquet")
    with pytest.raises(UserError, match=r"goals.parquet: no readable Parquet file"):
        read_waypoints(str(tmp_path / "goals.parquet"), HOPPER, DIM)
    (tmp_path / "goals.csv").write_bytes(b"0\n\xff\xfe\n")
    with pytest.raises(UserError, match=r"goals.csv: no readable CSV"):
        read_waypoints(str(tmp_path / "goals.csv"), HOPPER, DIM)


def test_unknown_environments_have_numbered_names(tmp_path: Path) -> None:
    path = tmp_path / "goals.csv"
    path.write_text("observation_2\n0.5\n")
    assert read_waypoints(str(path), "Pendulum-v1", 3).states[0, 2] == 0.5
    with pytest.raises(UserError, match="observation_0, observation_1, or an index from 0 to 1"):
        read_waypoints(str(path), "Pendulum-v1", 2)


@st.composite
def waypoint_sets(draw: st.DrawFn) -> Waypoints:
    count = draw(st.integers(1, 6))
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.just(float("nan"))
    states = draw(arrays.arrays(np.float32, (count, DIM), elements=numbers))
    states[np.isnan(states).all(axis=1), draw(st.integers(0, DIM - 1))] = 0.1
    gaps = draw(st.lists(st.integers(1, 400), min_size=count, max_size=count))
    return Waypoints(np.cumsum(gaps).astype(np.int64), states, "a test")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@settings(max_examples=50, deadline=None)
@given(waypoints=waypoint_sets())
def test_what_was_written_is_read_back(ending: str, waypoints: Waypoints) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"goals.{ending}"
        write_waypoints(waypoints, path, HOPPER)
        again = read_waypoints(str(path), HOPPER, DIM)
    np.testing.assert_array_equal(again.steps, waypoints.steps)
    np.testing.assert_array_equal(again.states, waypoints.states)


def test_a_written_table_has_the_names_of_what_is_fixed(tmp_path: Path) -> None:
    states = np.full((2, DIM), np.nan, dtype=np.float32)
    states[:, 2] = [0.1, 0.2]
    states[1, 0] = 1.25
    path = tmp_path / "new" / "goals.csv"
    waypoints = Waypoints(np.array([5, 10]), states, "a test")
    write_waypoints(waypoints, path, HOPPER)
    assert path.read_text() == '"step","torso_height","thigh_joint"\n5,,0.1\n10,1.25,0.2\n'
    with pytest.raises(UserError, match="already exists"):
        write_waypoints(waypoints, path, HOPPER)
    write_waypoints(Waypoints(np.array([7]), states[:1], "a test"), path, HOPPER, overwrite=True)
    assert path.read_text() == '"step","thigh_joint"\n7,0.1\n'


def test_what_cannot_be_written(tmp_path: Path) -> None:
    states = np.zeros((1, DIM), dtype=np.float32)
    with pytest.raises(UserError, match=r"unknown ending '.json'"):
        write_waypoints(Waypoints(np.array([1]), states, "a test"), tmp_path / "a.json", HOPPER)
    drifting = Waypoints(np.array([1]), states, "a test", moving=lambda step, observation: states)
    with pytest.raises(UserError, match="a test: these waypoints drift"):
        write_waypoints(drifting, tmp_path / "a.csv", HOPPER)


@pytest.mark.parametrize("text", ["3.4028235e+38", "-3.4028235e+38"])
def test_the_largest_numbers_are_read(tmp_path: Path, text: str) -> None:
    """As the shortest text of float32's largest number they are above it as float64."""
    path = tmp_path / "goals.csv"
    path.write_text(f"0\n{text}\n")
    assert abs(read_waypoints(str(path), "Hopper-v4", 11).states[0, 0]) == np.finfo(np.float32).max
