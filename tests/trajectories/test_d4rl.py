"""D4RL's layout: what ends an episode, which environment a file is from, and round trips."""

import h5py
import numpy as np
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.d4rl import read_hdf5, write_hdf5
from m3pc_ray.trajectories.validation import environment_from_name
from tests.trajectories.factory import (
    CUT,
    TERMINATED,
    TIME_LIMIT,
    assert_same,
    d4rl_arrays,
    make_trajectories,
    write_arrays,
)

ENDS = [TERMINATED, TIME_LIMIT, TERMINATED, TIME_LIMIT, CUT]


def test_terminals_timeouts_and_a_cut_last_episode(tmp_path):
    data = make_trajectories([3, 7, 2, 7, 4], ENDS)
    read = read_hdf5(write_arrays(tmp_path / "x.hdf5", d4rl_arrays(data)))
    assert_same(read, type(read)(**{**vars(data), "metadata": read.metadata}))
    assert read.metadata.environment_id == "Hopper-v4"
    assert read.metadata.max_episode_steps == 1000
    assert read.metadata.reference_max_score == 3234.3


def test_a_termination_on_the_last_allowed_step_is_a_termination(tmp_path):
    arrays = d4rl_arrays(make_trajectories([3, 3], [TERMINATED, TIME_LIMIT]))
    arrays["timeouts"][2] = True
    assert read_hdf5(write_arrays(tmp_path / "x.hdf5", arrays)).episode_ends.tolist() == [TERMINATED, TIME_LIMIT]


def test_a_timeout_before_the_limit_is_a_cut(tmp_path):
    arrays = d4rl_arrays(make_trajectories([7, 4, 7], [TIME_LIMIT] * 3))
    read = read_hdf5(write_arrays(tmp_path / "x.hdf5", arrays))
    assert read.episode_ends.tolist() == [TIME_LIMIT, CUT, TIME_LIMIT]


def test_without_timeouts_the_environments_limit_splits(tmp_path):
    # 1000 steps are Hopper's limit: 2300 steps without a terminal are 1000 + 1000 + 300
    arrays = d4rl_arrays(make_trajectories([40, 2300, 5], [TERMINATED, TERMINATED, CUT]))
    del arrays["timeouts"]
    read = read_hdf5(write_arrays(tmp_path / "x.hdf5", arrays))
    assert read.lengths.tolist() == [40, 1000, 1000, 300, 5]
    assert read.episode_ends.tolist() == [TERMINATED, TIME_LIMIT, TIME_LIMIT, TERMINATED, CUT]
    # where the limit splits, the next row is what followed
    np.testing.assert_array_equal(read.final_observations[1], arrays["observations"][1040])


def test_without_next_observations_the_last_one_is_unknown(tmp_path):
    data = make_trajectories([3, 4], [TERMINATED, TIME_LIMIT])
    arrays = d4rl_arrays(data)
    del arrays["next_observations"]
    read = read_hdf5(write_arrays(tmp_path / "x.hdf5", arrays))
    assert np.isnan(read.final_observations).all()
    assert read.lengths.tolist() == [3, 4]


def test_an_end_that_was_not_flagged_shows_in_the_next_observations(tmp_path):
    data = make_trajectories([3, 4, 5], [TERMINATED, CUT, TERMINATED])
    read = read_hdf5(write_arrays(tmp_path / "x.hdf5", d4rl_arrays(data)))
    assert read.lengths.tolist() == [3, 4, 5]
    assert read.episode_ends.tolist() == [TERMINATED, CUT, TERMINATED]
    np.testing.assert_array_equal(read.final_observations, data.final_observations)


def test_double_precision_and_columns_of_one_are_read(tmp_path):
    arrays = d4rl_arrays(make_trajectories([3]))
    arrays = {key: values.astype(float) if values.dtype == np.float32 else values for key, values in arrays.items()}
    arrays["rewards"] = arrays["rewards"][:, None]
    arrays["terminals"] = arrays["terminals"].astype(np.uint8)[:, None]
    read = read_hdf5(write_arrays(tmp_path / "x.hdf5", arrays))
    assert read.rewards.shape == (3,)
    assert read.observations.dtype == np.float32


def test_environment_from_the_attribute_the_name_or_the_option(tmp_path):
    arrays = d4rl_arrays(make_trajectories([3]))
    assert read_hdf5(write_arrays(tmp_path / "a.hdf5", arrays)).metadata.environment_id == "Hopper-v4"
    named = write_arrays(tmp_path / "hopper_medium_replay-v2.hdf5", arrays, env_id=None)
    assert read_hdf5(named).metadata.environment_id == "Hopper-v4"
    assert read_hdf5(named, "Hopper-v5").metadata.environment_id == "Hopper-v5"
    old = write_arrays(tmp_path / "old.hdf5", arrays, env_id="Hopper-v2")  # no longer in Gymnasium
    assert read_hdf5(old).metadata.environment_id == "Hopper-v4"
    nameless = write_arrays(tmp_path / "mine.hdf5", arrays, env_id=None)
    with pytest.raises(UserError, match=r"mine\.hdf5: no environment is named.*--environment"):
        read_hdf5(nameless)
    assert read_hdf5(nameless, "Hopper-v4").num_steps == 3


def test_d4rl_style_names():
    for name, expected in {
        "d4rl/hopper-medium-v2": "Hopper-v4",
        "walker2d_medium_expert-v2.hdf5": "Walker2d-v4",
        "/data/halfcheetah-medium-replay-selfmade.hdf5": "HalfCheetah-v4",
        "hopper.hdf5": None,
        "grasshopper-medium-v2": None,
    }.items():
        assert environment_from_name(name) == expected, name


def test_our_own_hdf5_is_lossless_and_others_can_read_it(tmp_path):
    data = make_trajectories([3, 7, 2, 4, 5], [CUT, TIME_LIMIT, TERMINATED, TIME_LIMIT, CUT], unknown_finals=[0, 3])
    write_hdf5(data, tmp_path / "own.hdf5")
    assert_same(read_hdf5(tmp_path / "own.hdf5"), data)
    with h5py.File(tmp_path / "own.hdf5") as file:
        ended = file["terminals"][()] | file["timeouts"][()]
        assert np.flatnonzero(ended).tolist() == [2, 9, 11, 15, 20]
        assert all(np.isfinite(file[key][()]).all() for key in ("observations", "next_observations"))


def test_our_own_hdf5_with_a_damaged_group(tmp_path):
    write_hdf5(make_trajectories([3, 7]), tmp_path / "own.hdf5")
    with h5py.File(tmp_path / "own.hdf5", "a") as file:
        file["m3pc/episode_starts"][1] = 20
    with pytest.raises(UserError, match="m3pc/episode_starts does not rise"):
        read_hdf5(tmp_path / "own.hdf5")
    with h5py.File(tmp_path / "own.hdf5", "a") as file:
        del file["m3pc/episode_ends"]
    with pytest.raises(UserError, match="group 'm3pc' is damaged"):
        read_hdf5(tmp_path / "own.hdf5")
