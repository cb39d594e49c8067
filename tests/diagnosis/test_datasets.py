import shutil

import pyarrow.parquet as parquet
import pytest

from m3pc_ray.diagnosis.datasets import check_data, load_here
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories import download
from m3pc_ray.trajectories.d4rl import write_hdf5
from m3pc_ray.trajectories.resolve import BUNDLED
from m3pc_ray.trajectories.store import DATA_FILE, checksum
from tests.tiny_run import random_hopper_episodes


def rows_of(reference: str, folder: str = ""):
    location, trajectories = load_here(reference, "", folder)
    return check_data(reference, location, trajectories)


def test_the_bundled_data_has_its_checksum():
    (row,) = rows_of("bundled/hopper")
    assert (row.name, row.status) == ("data bundled/hopper", "ok")
    _, trajectories = load_here("bundled/hopper")
    assert checksum(trajectories)[:20] in row.found


def test_a_store_that_was_changed_fails(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(BUNDLED["bundled/hopper"], folder)
    table = parquet.read_table(folder / DATA_FILE)
    rewards = table.column("rewards").to_numpy().copy()
    rewards[4321] += 1e-3
    place = table.schema.get_field_index("rewards")
    parquet.write_table(table.set_column(place, table.schema.field(place), [rewards]), folder / DATA_FILE)
    with pytest.raises(UserError, match="does not match the checksum"):
        load_here(str(folder))


def test_a_file_without_a_checksum_is_not_called_sound(tmp_path):
    path = tmp_path / "random.hdf5"
    write_hdf5(random_hopper_episodes(episodes=2), path)
    (row,) = rows_of(str(path))
    assert row.status == "not checked"
    assert "2 episodes" in row.found
    assert "sha256:" in row.found


def test_what_is_not_here_is_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "download", lambda *_, **__: pytest.fail("it was downloaded"))
    for reference in ("d4rl/hopper-medium-v2", "hopper-medium-v2"):
        with pytest.raises(UserError, match="m3pc data download d4rl/hopper-medium-v2"):
            load_here(reference, "", str(tmp_path))
    with pytest.raises(UserError, match="not on this machine"):
        load_here("mujoco/hopper/medium-v99", "", str(tmp_path))
