"""References, the bundled set, and what the commands print and write."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from m3pc_ray import cli
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories import resolve
from m3pc_ray.trajectories.d4rl import write_hdf5
from m3pc_ray.trajectories.files import disk_bytes
from m3pc_ray.trajectories.store import METADATA_FILE, write_store
from tests.trajectories.factory import (
    CUT,
    TERMINATED,
    TIME_LIMIT,
    assert_same,
    d4rl_arrays,
    make_trajectories,
    write_arrays,
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Nothing of the user's own is looked at, and figures land in a temporary folder."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def test_bundled_set_is_whole_episodes_of_wide_quality_and_small():
    data = resolve.load("bundled/hopper")
    assert data.metadata.environment_id == "Hopper-v4"
    assert disk_bytes(resolve.BUNDLED["bundled/hopper"]) <= 6_000_000
    assert not (data.episode_ends == CUT).any()
    assert np.isfinite(data.final_observations).all()
    assert data.lengths[data.episode_ends == TIME_LIMIT].tolist() == [1000] * int(
        (data.episode_ends == TIME_LIMIT).sum()
    )
    assert data.returns.min() < 100
    assert data.returns.max() > 2500
    assert "make_bundled_data.py" in data.metadata.origin


def test_bundled_steps_are_what_the_simulator_does():
    """A recorded transition, set up in MuJoCo again, gives the recorded reward and next observation."""
    from m3pc_ray.environments.make import make_environment

    data = resolve.load("bundled/hopper")
    following = data.next_observations()
    environment = make_environment("Hopper-v4")
    environment.reset(seed=0)
    simulator = environment.unwrapped
    for row in np.random.default_rng(0).integers(0, data.num_steps, size=50):
        observation = data.observations[row].astype(np.float64)
        if np.any(np.abs(observation[5:]) >= 9.999):
            continue  # velocities are clipped in the observation, so the state behind it is unknown
        simulator.set_state(np.concatenate([[0.0], observation[:5]]), observation[5:])
        seen, reward, terminated, _, _ = environment.unwrapped.step(data.actions[row])
        np.testing.assert_allclose(seen, following[row], atol=1e-4)
        assert reward == pytest.approx(data.rewards[row], abs=1e-4)
        assert terminated == data.terminated()[row]
    environment.close()


def test_paths_of_every_kind(tmp_path):
    data = make_trajectories([3, 4], [TERMINATED, TIME_LIMIT])
    write_store(data, tmp_path / "store")
    write_hdf5(data, tmp_path / "own.hdf5")
    assert_same(resolve.load(str(tmp_path / "store")), data)
    assert_same(resolve.load(str(tmp_path / "own.hdf5")), data)
    with pytest.raises(UserError, match="give the folder that holds it"):
        resolve.load(str(tmp_path / "store" / "episodes.parquet"))
    with pytest.raises(UserError, match="neither a trajectory store"):
        resolve.load(str(tmp_path / "work"))


def test_a_file_in_the_data_folder_by_its_name(tmp_path):
    (tmp_path / "d4rl").mkdir()
    write_arrays(tmp_path / "d4rl" / "hopper-medium-v2.hdf5", d4rl_arrays(make_trajectories([3])), env_id=None)
    assert resolve.load("d4rl/hopper-medium-v2").num_steps == 3
    listed = {row["name"]: row for row in resolve.list_known()}
    assert listed["d4rl/hopper-medium-v2"]["available"]
    assert not listed["d4rl/hopper-expert-v2"]["available"]
    assert listed["bundled/hopper"]["environment"] == "Hopper-v4"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("d4rl/hoper-medium-v2", "close names: d4rl/hopper-medium-v2"),
        ("./nothing.hdf5", "no such file, folder or data set"),
        ("bundled/hoppr", "close names: bundled/hopper"),
        ("", "data.dataset is empty"),
    ],
)
def test_references_that_lead_nowhere(reference, message):
    with pytest.raises(UserError, match=message):
        resolve.load(reference)


def test_info_rows_table_and_histogram(tmp_path, capsys):
    ends = [TERMINATED, TERMINATED, TIME_LIMIT, CUT]
    rewards = [10, 10, 20, 20, 30, 30, 30, 1000]
    write_store(make_trajectories([2, 2, 3, 1], ends, rewards), tmp_path / "store")
    assert cli.main(["data", "info", str(tmp_path / "store"), "--json", "info.json"]) == 0
    (row,) = json.loads((tmp_path / "work" / "info.json").read_text())["rows"]
    assert row["episodes"] == 4
    assert row["steps"] == 8
    # the return of the cut episode is unknown, so it counts for none of these
    assert (row["return_min"], row["return_mean"], row["return_max"]) == (20, 50, 90)
    assert row["score_min"] == pytest.approx(100 * (20 + 20.272305) / (3234.3 + 20.272305))
    assert (row["length_min"], row["length_mean"], row["length_max"]) == (1, 2, 3)
    assert (row["fraction_terminated"], row["fraction_time_limit"], row["fraction_cut"]) == (0.5, 0.25, 0.25)
    assert row["environment"] == "Hopper-v4"
    assert row["disk_bytes"] == disk_bytes(tmp_path / "store")
    assert row["figure"] == "synthetic-returns.png"
    assert (tmp_path / "work" / "synthetic-returns.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "Hopper-v4" in printed
    assert "terminated 50.0%" in printed


def test_convert_there_and_back(tmp_path, capsys):
    data = make_trajectories([3, 7, 4], [CUT, TIME_LIMIT, CUT], unknown_finals=[2])
    write_store(data, tmp_path / "store")
    assert cli.main(["data", "convert", str(tmp_path / "store"), "a.hdf5"]) == 0
    assert cli.main(["data", "convert", "a.hdf5", "back"]) == 0
    assert_same(resolve.load("back"), data)
    assert sorted(os.listdir()) == ["a.hdf5", "back"]
    capsys.readouterr()
    for target in ("a.hdf5", "back"):
        assert cli.main(["data", "convert", "bundled/hopper", target]) == 2
        assert f"{target} already exists" in capsys.readouterr().err
    assert_same(resolve.load("back"), data)
    assert cli.main(["data", "convert", "bundled/hopper", "back", "--overwrite"]) == 0
    assert resolve.load("back").metadata.name == "bundled/hopper"


def test_h5_is_hdf5_and_a_damaged_store_hides_nothing_in_the_list(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    data = make_trajectories([3, 7])
    write_store(data, folder / "store")
    assert cli.main(["data", "convert", str(folder / "store"), str(folder / "copy.h5")]) == 0
    assert_same(resolve.load("copy.h5", folder=str(folder)), data)
    (folder / "store" / METADATA_FILE).write_text("{")
    assert cli.main(["data", "list", "--folder", str(folder), "--json", "list.json"]) == 0
    rows = {row["name"]: row for row in json.loads(Path("list.json").read_text())["rows"]}
    assert rows[str(folder / "store")]["environment"] == "(unreadable)"
    assert rows[str(folder / "copy.h5")]["kind"] == "hdf5"


def test_several_sources_are_joined(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    write_store(make_trajectories([5, 7], seed=1), first)
    write_store(make_trajectories([4], seed=2), second)
    target = tmp_path / "both"
    assert cli.main(["data", "convert", str(first), str(second), str(first), str(target)]) == 0
    assert "5 episodes, 28 steps" in capsys.readouterr().out
    parts, joined = [resolve.load(str(path)) for path in (first, second, first)], resolve.load(str(target))
    np.testing.assert_array_equal(joined.observations, np.concatenate([part.observations for part in parts]))
    np.testing.assert_array_equal(joined.lengths, [5, 7, 4, 5, 7])
    assert joined.metadata.name == "both"
    assert "synthetic + synthetic + synthetic, joined" in joined.metadata.origin
    assert cli.main(["data", "convert", str(first), str(target)]) == 2  # DST is there already


def test_convert_needs_an_environment(tmp_path, capsys):
    path = write_arrays(tmp_path / "mine.hdf5", d4rl_arrays(make_trajectories([3])), env_id=None)
    assert cli.main(["data", "convert", str(path), "out"]) == 2
    assert "--environment" in capsys.readouterr().err
    assert os.listdir() == []
    assert cli.main(["data", "convert", str(path), "out", "--environment", "Hopper-v4"]) == 0
    assert resolve.load("out").metadata.environment_id == "Hopper-v4"


def test_list_as_json():
    assert cli.main(["data", "list", "--json", "list.json"]) == 0
    rows = {row["name"]: row for row in json.loads(Path("list.json").read_text())["rows"]}
    walker = rows["d4rl/walker2d-medium-v2"]
    assert (walker["kind"], walker["environment"], walker["available"]) == ("d4rl", "Walker2d-v4", False)
    assert rows["bundled/hopper"]["available"]
