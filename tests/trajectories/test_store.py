"""The Parquet store: lossless, checked on reading, complete or absent."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories import store
from m3pc_ray.trajectories.files import replacing
from m3pc_ray.trajectories.store import read_store, write_store
from tests.trajectories.factory import CUT, TERMINATED, TIME_LIMIT, assert_same, make_trajectories


@pytest.fixture
def folder(tmp_path):
    data = make_trajectories([3, 7, 2, 4], [CUT, TIME_LIMIT, TERMINATED, CUT], unknown_finals=[0, 2])
    write_store(data, tmp_path / "set")
    return tmp_path / "set"


def rewrite(folder, change):
    """Replace the Parquet file by one whose columns, as Python lists, went through `change`."""
    table = parquet.read_table(folder / store.DATA_FILE)
    columns = table.to_pydict()
    change(columns)
    fields = [field for field in table.schema if field.name in columns]
    parquet.write_table(pa.table(columns, schema=pa.schema(fields)), folder / store.DATA_FILE)


def redescribe(folder, **changes):
    described = json.loads((folder / store.METADATA_FILE).read_text())
    described.update(changes)
    (folder / store.METADATA_FILE).write_text(json.dumps(described))


def test_round_trip_is_lossless(tmp_path):
    data = make_trajectories([3, 7, 2, 4], [CUT, TIME_LIMIT, TERMINATED, CUT], unknown_finals=[0, 2])
    write_store(data, tmp_path / "set")
    assert_same(read_store(tmp_path / "set"), data)
    assert os.listdir(tmp_path) == ["set"]


def test_columns_are_those_rllib_reads(folder):
    table = parquet.read_table(folder / store.DATA_FILE)
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        "eps_id": "string",
        "obs": "list<element: float>",
        "actions": "list<element: float>",
        "new_obs": "list<element: float>",
        "rewards": "float",
        "terminateds": "bool",
        "truncateds": "bool",
    }
    columns = table.to_pydict()
    assert len(set(columns["eps_id"])) == 4
    assert np.flatnonzero(columns["terminateds"]).tolist() == [11]
    assert np.flatnonzero(columns["truncateds"]).tolist() == [2, 9, 15]
    assert columns["new_obs"][0] == columns["obs"][1]
    assert np.isfinite(np.array(columns["new_obs"])).all()
    compression = parquet.ParquetFile(folder / store.DATA_FILE).metadata.row_group(0).column(1).compression
    assert compression == "ZSTD"


def test_an_existing_target_stays(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match="already exists"):
        write_store(make_trajectories([5]), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    write_store(make_trajectories([5]), folder, overwrite=True)
    assert read_store(folder).num_steps == 5
    assert os.listdir(folder.parent) == ["set"]


def test_a_folder_that_is_no_store_is_never_overwritten(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="no trajectory store; it will not be overwritten"):
        write_store(make_trajectories([5]), tmp_path / "home", overwrite=True)
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_nothing_half_written_stays(tmp_path, failure):
    def interrupted():
        with replacing(tmp_path / "x") as fresh:
            fresh.write_text("half")
            raise failure

    with pytest.raises(failure):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_line_and_leaves_the_old_data(folder, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.parquet, "write_table", full)
    with pytest.raises(UserError, match="set: cannot be written .No space left on device."):
        write_store(make_trajectories([5]), folder, overwrite=True)
    monkeypatch.undo()
    assert read_store(folder).num_steps == 16
    assert os.listdir(folder.parent) == ["set"]


@pytest.mark.parametrize("column", ["obs", "actions", "rewards", "new_obs"])
def test_a_changed_value_fails_the_checksum(folder, column):
    def change(columns):
        row = 9 if column == "new_obs" else 5  # elsewhere than at an episode's end, new_obs repeats obs
        if column == "rewards":
            columns[column][row] += 0.5
        else:
            columns[column][row][0] *= 0.5

    rewrite(folder, change)
    with pytest.raises(UserError, match="does not match the checksum"):
        read_store(folder)


def test_a_changed_kind_of_end_fails_the_checksum(folder):
    redescribe(folder, episode_ends=["time_limit", "time_limit", "terminated", "cut"])
    with pytest.raises(UserError, match="does not match the checksum"):
        read_store(folder)


def test_a_lost_episode_is_noticed(folder):
    rewrite(folder, lambda columns: [values.__delitem__(slice(12, None)) for values in columns.values()])
    with pytest.raises(UserError, match=r"holds 3 episodes, _metadata\.json describes 4"):
        read_store(folder)


def _set(column, row, value):
    def change(columns):
        columns[column][row] = value

    return change


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("obs", 4, [0.0] * 10 + [NAN]), r"episodes\.parquet: obs\[4, 10\] is nan"),
        (_set("rewards", 6, INF), r"episodes\.parquet: rewards\[6\] is inf"),
        (_set("actions", 2, [0.0, -1.5, 0.0]), r"actions\[2, 1\] is -1\.5, outside the bounds \[-1, 1\]"),
        (_set("actions", 3, [0.0, 0.0]), r"actions\[3\] has 2 values, actions\[0\] has 3"),
        (_set("rewards", 7, None), r"rewards\[7\] is null"),
        (lambda columns: columns.pop("rewards"), r"episodes\.parquet: column 'rewards' is missing"),
        (lambda columns: [values.clear() for values in columns.values()], r"holds no step"),
        (
            lambda columns: columns.update(obs=[row[:10] for row in columns["obs"]]),
            r"obs has 10 columns, Hopper-v4 has 11",
        ),
    ],
)
def test_bad_values_are_named(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(UserError, match=message) as caught:
        read_store(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: os.truncate(folder / store.DATA_FILE, 2000), r"episodes\.parquet: no readable Parquet"),
        (lambda folder: os.truncate(folder / store.DATA_FILE, 0), r"episodes\.parquet: the file is empty"),
        (lambda folder: (folder / store.DATA_FILE).write_text("hello" * 99), r"episodes\.parquet: no readable Parquet"),
        (lambda folder: (folder / store.DATA_FILE).unlink(), r"episodes\.parquet: no such file"),
        (lambda folder: (folder / store.METADATA_FILE).unlink(), r"metadata\.json: no such file"),
        (lambda folder: os.truncate(folder / store.METADATA_FILE, 50), r"metadata\.json: no readable JSON"),
        (lambda folder: (folder / store.METADATA_FILE).write_text("{}"), r"metadata\.json: key 'format'"),
        (lambda folder: redescribe(folder, format_version=99), r"format_version' is 99, this version reads 1"),
        (lambda folder: redescribe(folder, episode_ends=["won"] * 4), r"episode_ends\[0\] is 'won'"),
        (lambda folder: redescribe(folder, dataset={}), r"key 'dataset' is damaged"),
        (lambda folder: redescribe(folder, unknown_final_observations=[9]), r"unknown_final_observations\[0\] is 9"),
    ],
)
def test_damaged_files_are_named(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        read_store(folder)
    assert "\n" not in str(caught.value)


def test_another_environment_can_be_named(folder):
    assert read_store(folder, "Hopper-v5").metadata.environment_id == "Hopper-v5"
    with pytest.raises(UserError, match="obs has 11 columns, Walker2d-v4 has 17"):
        read_store(folder, "Walker2d-v4")
