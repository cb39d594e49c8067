"""Minari data sets, written by Minari itself."""

import os
import sys

import gymnasium
import minari
import numpy as np
import pytest
from minari.data_collector.episode_buffer import EpisodeBuffer

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories import resolve
from m3pc_ray.trajectories.minari import read_minari
from tests.trajectories.factory import CUT, TERMINATED, TIME_LIMIT, make_trajectories

# Minari's advice to those who publish a data set
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari.utils")

BOX = gymnasium.spaces.Box(-np.inf, np.inf, (11,), np.float64)
ACTIONS = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
ENDS = [TERMINATED, TIME_LIMIT, TIME_LIMIT, CUT]


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def write(data, name="mujoco/hopper/test-v0", env="Hopper-v5", change=None):
    buffers = []
    for episode in range(data.num_episodes):
        rows = slice(*data.episode_starts[episode : episode + 2])
        steps, end = int(data.lengths[episode]), data.episode_ends[episode]
        arrays = {
            "observations": np.concatenate([data.observations[rows], data.final_observations[episode : episode + 1]]),
            "actions": data.actions[rows],
            "rewards": data.rewards[rows].copy(),
        }
        if change is not None and episode == 1:
            change(arrays)
        buffers.append(
            EpisodeBuffer(
                id=episode,
                observations=arrays["observations"].astype(np.float64),
                actions=arrays["actions"],
                rewards=list(arrays["rewards"]),
                terminations=[False] * (steps - 1) + [end == TERMINATED],
                truncations=[False] * (steps - 1) + [end == TIME_LIMIT],
            )
        )
    spaces = {} if env else {"observation_space": BOX, "action_space": ACTIONS}
    minari.create_dataset_from_buffers(name, buffers, env=env, **spaces)
    return name


def hopper():
    return make_trajectories([3, 6, 6, 4], ENDS)


def test_by_id_by_folder_and_through_the_resolver(datasets):
    data = hopper()
    name = write(data)
    for read in (
        read_minari(name),
        read_minari(datasets / name),
        resolve.load(name),
        resolve.load(str(datasets / name)),
    ):
        for key in ("observations", "actions", "rewards", "episode_starts", "episode_ends", "final_observations"):
            np.testing.assert_array_equal(getattr(read, key), getattr(data, key), err_msg=key)
        assert read.metadata.environment_id == "Hopper-v5"
        assert read.metadata.max_episode_steps == 1000
        assert read.metadata.reference_max_score == 3234.3
    listed = [row for row in resolve.list_known() if row["kind"] == "minari"]
    assert [row["name"] for row in listed] == [name]


def test_a_data_set_without_environment_needs_one_named():
    name = write(hopper(), name="mine-v0", env=None)
    with pytest.raises(UserError, match="mine-v0: it names no environment.*--environment"):
        read_minari(name)
    assert read_minari(name, "Hopper-v4").metadata.environment_id == "Hopper-v4"


def test_bad_values_name_the_episode():
    def spoil(arrays):
        arrays["rewards"][2] = np.nan

    name = write(hopper(), change=spoil)
    with pytest.raises(UserError, match=rf"{name}, episode 1: rewards\[2\] is nan"):
        read_minari(name)


def test_wrong_size_for_the_environment():
    with pytest.raises(UserError, match="observations has 11 columns, the environment has 17"):
        read_minari(write(hopper()), "Walker2d-v4")


def test_a_damaged_file_is_one_line(datasets):
    name = write(hopper())
    file = datasets / name / "data" / "main_data.hdf5"
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(UserError, match=f"Minari data set {name}: cannot be read") as caught:
        read_minari(name)
    assert "\n" not in str(caught.value)


def test_a_set_that_is_not_here_and_cannot_be_fetched(monkeypatch):
    def offline(*arguments, **options):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(minari, "load_dataset", offline)
    with pytest.raises(UserError, match="cannot be downloaded .ConnectionError: no route to host") as caught:
        resolve.load("mujoco/hopper/medium-v0")
    assert "\n" not in str(caught.value)


def test_without_the_extra_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(UserError, match=r"extra `minari`: pip install 'm3pc-ray\[minari\]'"):
        read_minari("mujoco/hopper/medium-v0")
