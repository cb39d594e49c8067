"""Bad HDF5 input: one line each, naming file, key and index."""

import os

import h5py
import numpy as np
import pytest

from m3pc_ray import cli
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.d4rl import read_hdf5
from tests.trajectories.factory import d4rl_arrays, make_trajectories, write_arrays


def arrays_with(**changes):
    arrays = d4rl_arrays(make_trajectories([5, 6]))
    for key, change in changes.items():
        arrays[key] = change(arrays[key])
    return arrays


def put(index, value):
    def change(values):
        values = values.copy()
        values[index] = value
        return values

    return change


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": put((7, 2), np.nan)}, r"observations\[7, 2\] is nan; every value must be finite"),
        ({"rewards": put(3, np.inf)}, r"rewards\[3\] is inf"),
        ({"rewards": lambda values: np.full(len(values), 1e300)}, r"rewards\[0\] is inf"),  # too large for float32
        ({"next_observations": put((1, 10), -np.inf)}, r"next_observations\[1, 10\] is -inf"),
        ({"actions": put((4, 1), 1.2)}, r"actions\[4, 1\] is 1\.2, outside the bounds \[-1, 1\]"),
        ({"actions": put((4, 1), np.nan)}, r"actions\[4, 1\] is nan"),
        ({"rewards": lambda values: values[:-1]}, r"rewards has 10 rows, observations has 11"),
        ({"timeouts": lambda values: values[:-2]}, r"timeouts has 9 rows, observations has 11"),
        ({"observations": lambda values: values[:, :10]}, r"observations has 10 columns, Hopper-v4 has 11"),
        ({"actions": lambda values: values[:, :2]}, r"actions has 2 columns, Hopper-v4 has 3"),
        ({"observations": lambda values: values[:, 0]}, r"observations has shape \(11,\); \(steps, size\) is needed"),
        ({"rewards": lambda values: values.astype("S4")}, r"rewards holds \|S4, numbers are needed"),
    ],
)
def test_bad_values(tmp_path, changes, message):
    path = write_arrays(tmp_path / "bad.hdf5", arrays_with(**changes))
    with pytest.raises(UserError, match=rf"bad\.hdf5: {message}") as caught:
        read_hdf5(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["observations", "terminals"])
def test_missing_key(tmp_path, key):
    arrays = arrays_with()
    del arrays[key]
    with pytest.raises(UserError, match=rf"bad\.hdf5: key '{key}' is missing \(keys: "):
        read_hdf5(write_arrays(tmp_path / "bad.hdf5", arrays))


def test_no_step(tmp_path):
    arrays = {key: values[:0] for key, values in arrays_with().items()}
    with pytest.raises(UserError, match=r"bad\.hdf5: observations holds no step"):
        read_hdf5(write_arrays(tmp_path / "bad.hdf5", arrays))


def test_truncated_empty_foreign_and_absent_files(tmp_path):
    path = write_arrays(tmp_path / "bad.hdf5", arrays_with())
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match=r"bad\.hdf5: no readable HDF5 file \(truncated\)"):
        read_hdf5(path)
    os.truncate(path, 0)
    with pytest.raises(UserError, match=r"bad\.hdf5: the file is empty"):
        read_hdf5(path)
    path.write_text("a text" * 100)
    with pytest.raises(UserError, match=r"bad\.hdf5: no readable HDF5 file \(not HDF5\)"):
        read_hdf5(path)
    with pytest.raises(UserError, match=r"none\.hdf5: no such file"):
        read_hdf5(tmp_path / "none.hdf5")


def test_damage_inside_a_dataset(tmp_path):
    path = tmp_path / "bad.hdf5"
    with h5py.File(path, "w") as file:
        for key, values in arrays_with().items():
            file.create_dataset(key, data=values, compression="gzip")
        offset = file["rewards"].id.get_chunk_info(0).byte_offset
        file.attrs["env_id"] = "Hopper-v4"
    with open(path, "r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * 8)
    with pytest.raises(UserError, match=r"bad\.hdf5: rewards cannot be read, the file is damaged"):
        read_hdf5(path)


def test_an_environment_gymnasium_does_not_know(tmp_path):
    path = write_arrays(tmp_path / "bad.hdf5", arrays_with(), env_id="Hoper-v4")
    with pytest.raises(UserError, match="Hoper-v4 cannot be made"):
        read_hdf5(path)


def test_the_command_line_says_it_in_one_line_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_arrays(tmp_path / "bad.hdf5", arrays_with(rewards=put(3, np.inf)))
    for words in (["convert", str(path), "out"], ["convert", str(path), "out.hdf5"], ["info", str(path)]):
        assert cli.main(["data", *words]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.splitlines() == [f"m3pc: error: {path}: rewards[3] is inf; every value must be finite"]
    assert os.listdir(tmp_path) == ["bad.hdf5"]
