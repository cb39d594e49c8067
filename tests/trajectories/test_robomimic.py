"""Robomimic's layout: files as older and newer robosuite write them, read to the same; our own read back exactly."""

import dataclasses
import io
import json

import h5py
import numpy as np
import pytest
from rich.console import Console

from m3pc_ray.cli import main
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.evaluate import earned
from m3pc_ray.evaluation.tables import score_table
from m3pc_ray.training.data import transition_arrays
from m3pc_ray.trajectories import resolve, robomimic
from m3pc_ray.trajectories.episodes import EpisodeEnd
from m3pc_ray.trajectories.returns import returns_to_go
from m3pc_ray.trajectories.robomimic_writer import write_robomimic
from m3pc_ray.trajectories.statistics import compute_statistics
from m3pc_ray.trajectories.store import read_store
from tests.trajectories.factory import ARRAYS, make_trajectories
from tests.trajectories.manipulation_factory import CAN, LIFT, LIMITED, make_manipulation

TERMINATED, TIME_LIMIT, CUT = EpisodeEnd.TERMINATED, EpisodeEnd.TIME_LIMIT, EpisodeEnd.CUT
ENDS = [TERMINATED, TIME_LIMIT, TERMINATED, CUT]


def assert_same(data, expected):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(data, name), getattr(expected, name), err_msg=name)


@pytest.fixture
def can(tmp_path):
    """(data, file) of some Can episodes."""
    data = make_manipulation(ENDS)
    write_robomimic(data, tmp_path / "can.hdf5", {"train": [0, 2], "valid": [1]})
    return data, tmp_path / "can.hdf5"


@pytest.mark.parametrize("environment_id", [CAN, LIMITED, LIFT])
def test_what_is_written_is_read_back(tmp_path, environment_id):
    data = make_manipulation(ENDS, environment_id, seed=3)
    data.final_observations[1] = np.nan
    write_robomimic(data, tmp_path / "x.hdf5")
    back = robomimic.read_robomimic(tmp_path / "x.hdf5", environment_id)
    assert_same(back, data)
    assert (back.metadata.environment_id, back.metadata.max_episode_steps) == (environment_id, 400)
    assert back.metadata.reference_max_score is None


def test_an_attempt_given_up_before_the_time_limit_is_over(can):
    data, path = can
    data.rewards[data.episode_starts[1] - 1] = 0.0  # episode 0 is not solved, though it has terminated
    write_robomimic(data, path)
    back = robomimic.read_robomimic(path)
    assert_same(back, data)
    assert back.lengths[0] < back.lengths[1] == 400
    # The critic learns that nothing is earned from there on; at the limit it bootstraps.
    arrays, keep = transition_arrays(back, np.full(7, -1.0), np.full(7, 1.0))
    assert arrays["terminated"][back.episode_starts[1:3] - 1].tolist() == [1.0, 0.0]
    assert keep[back.episode_starts[1:3] - 1].all()


def test_how_another_tool_marks_a_failure(can):
    data, path = can
    data.rewards[:] = 0.0
    write_robomimic(data, path)
    with h5py.File(path, "r+") as file:
        for name in ("demo_0", "demo_1", "demo_2", "demo_3"):
            del file[f"data/{name}"].attrs["end"]
        file["data/demo_2/dones"][:] = 0  # robomimic's done_mode 0: set on success alone
    back = robomimic.read_robomimic(path)
    assert back.episode_ends.tolist() == [TERMINATED, TIME_LIMIT, TIME_LIMIT, TIME_LIMIT]
    assert back.returns_known().all()
    assert back.returns.tolist() == [0.0] * 4
    for wrong, shown in (("over", "'over'"), (np.arange(2), r"'\[0 1\]'")):
        with h5py.File(path, "r+") as file:
            file["data/demo_1"].attrs["end"] = wrong
        with pytest.raises(UserError, match=f"data/demo_1: attribute 'end' is {shown}; .* terminated, time_limit, cut"):
            robomimic.read_robomimic(path)


def test_a_time_limit_of_the_users_own_is_kept(tmp_path):
    data = make_manipulation([TIME_LIMIT, TERMINATED])
    shorter = data.select([0])
    rows = slice(0, 100)
    shorter = dataclasses.replace(
        shorter,
        **{name: getattr(shorter, name)[rows] for name in ("observations", "actions", "rewards")},
        episode_starts=np.array([0, 100]),
    )
    write_robomimic(shorter, tmp_path / "x.hdf5")
    assert_same(robomimic.read_robomimic(tmp_path / "x.hdf5"), shorter)


def test_episodes_in_the_order_of_their_numbers_and_masks(tmp_path):
    data = make_manipulation([TERMINATED] * 12)
    path = tmp_path / "x.hdf5"
    write_robomimic(data, path, {"better": [11, 2]})
    assert_same(resolve.load(str(path)), data)  # by name, demo_10 would come before demo_2
    assert robomimic.masks(path) == {"better": 2}
    chosen = robomimic.read_robomimic(path, mask="better")
    assert_same(chosen, data.select([2, 11]))
    assert chosen.metadata.name == "x-better"
    with pytest.raises(UserError, match=r"has no mask worse \(masks: better\)"):
        robomimic.read_robomimic(path, mask="worse")


def test_success_ends_an_episode_whatever_was_recorded_after_it(can):
    data, path = can
    start, stop = data.episode_starts[:2]
    with h5py.File(path, "r+") as file:
        rewards, dones = file["data/demo_0/rewards"], file["data/demo_0/dones"]
        rewards[5:] = 1.0
        dones[5:] = 1
    back = robomimic.read_robomimic(path)
    assert back.lengths[0] == 6
    assert back.episode_ends[0] == TERMINATED
    np.testing.assert_array_equal(back.rewards[:6], [0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(back.final_observations[0], data.observations[start + 6])
    assert f"{stop - start - 6} steps after success left out" in back.metadata.origin
    assert back.returns.tolist() == [1.0, 0.0, 1.0, 0.0]


def test_without_next_observations_the_last_is_unknown_unless_it_was_recorded(can):
    data, path = can
    with h5py.File(path, "r+") as file:
        for episode in range(4):
            del file[f"data/demo_{episode}/next_obs"]
        file["data/demo_0/rewards"][5:] = 1.0
    back = robomimic.read_robomimic(path)
    np.testing.assert_array_equal(back.final_observations[0], data.observations[6])
    assert np.isnan(back.final_observations[1:]).all()


@pytest.mark.parametrize("seed", range(3))
def test_signs_of_quaternions_in_a_file_do_not_matter(tmp_path, seed):
    data, path = make_manipulation(ENDS, seed=seed), tmp_path / "x.hdf5"
    write_robomimic(data, path)
    rng = np.random.default_rng(seed)
    with h5py.File(path, "r+") as file:
        for episode in range(4):
            for group in ("obs", "next_obs"):
                seen = file[f"data/demo_{episode}/{group}"]
                for key, column in (("robot0_eef_quat", 0), ("object", 3), ("object", 10)):
                    values = seen[key][()]
                    values[:, column : column + 4] *= rng.choice([-1, 1], (len(values), 1))
                    seen[key][...] = values
    assert_same(robomimic.read_robomimic(path), data)


def test_entries_in_the_order_of_robosuite_1_5_which_lag_a_step(can):
    data, path = can
    with h5py.File(path, "r+") as file:
        for episode in range(4):
            for group in ("obs", "next_obs"):
                values = file[f"data/demo_{episode}/{group}/object"][()]
                seen = np.roll(values[:, 7:], 1, axis=0)
                seen[0] = 0.0
                file[f"data/demo_{episode}/{group}/object"][...] = np.concatenate([seen, values[:, :7]], axis=1)
    back = robomimic.read_robomimic(path)
    np.testing.assert_allclose(back.observations, data.observations, atol=1e-5)


def test_an_episode_of_one_step_whose_relative_entries_are_robosuites_zeros(tmp_path):
    data, path = make_manipulation([TERMINATED], length=1), tmp_path / "x.hdf5"
    write_robomimic(data, path)
    with h5py.File(path, "r+") as file:
        for group, kept in (("obs", 0.0), ("next_obs", 1.0)):
            values = file[f"data/demo_0/{group}/object"][()]
            file[f"data/demo_0/{group}/object"][...] = np.concatenate([kept * values[:, 7:], values[:, :7]], axis=1)
    back = robomimic.read_robomimic(path)
    assert back.num_steps == 1
    np.testing.assert_allclose(back.observations, data.observations, atol=1e-5)


def test_lift_with_the_other_sign_of_robosuite_1_5(tmp_path):
    data, path = make_manipulation(ENDS, LIFT), tmp_path / "x.hdf5"
    write_robomimic(data, path)
    with h5py.File(path, "r+") as file:
        for episode in range(4):
            values = file[f"data/demo_{episode}/obs/object"]
            values[:, 7:] = -values[:, 7:]
    np.testing.assert_allclose(robomimic.read_robomimic(path).observations, data.observations, atol=1e-5)


def test_the_limited_task_sees_only_where_the_can_is(can):
    data, path = can
    limited = resolve.load(str(path), LIMITED)
    np.testing.assert_array_equal(limited.observations, data.observations[:, :12])
    assert limited.metadata.environment_id == LIMITED


def damage(file, what):
    settings = json.loads(file["data"].attrs["env_args"])
    kwargs = settings["env_kwargs"]
    arm = kwargs["controller_configs"]["body_parts"]["right"]
    if what == "kp":
        arm["kp"] = 300
    elif what == "old kp":
        kwargs["controller_configs"] = {"type": "OSC_POSE", "kp": 150, "damping": 2}
    elif what == "robot":
        kwargs["robots"] = ["Sawyer"]
    elif what == "task":
        settings["env_name"] = "ToolHang"
    elif what == "frequency":
        kwargs["control_freq"] = 10
    elif what == "no frequency":
        kwargs["control_freq"] = None
    elif what == "raw":
        del file["data/demo_1/obs"]
    elif what == "key":
        del file["data/demo_1/obs/object"]
    elif what == "shaped":
        file["data/demo_1/rewards"][2] = 0.3
    elif what == "nan":
        file["data/demo_1/obs/robot0_eef_pos"][2, 1] = np.nan
    elif what == "action":
        file["data/demo_1/actions"][2, 1] = 1.5
    elif what == "order":
        file["data/demo_1/obs/object"][:, 7:] += 1.0
    elif what == "rows":
        del file["data/demo_1/dones"]
        file["data/demo_1/dones"] = np.zeros(3)
    file["data"].attrs["env_args"] = json.dumps(settings)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("kp", "its controller has kp 300, our environments have 150; .* give --environment robosuite/PickPlaceCan-v1"),
        ("old kp", "its controller has damping 2"),
        ("robot", r"its robots are \['Sawyer'\]"),
        ("task", "its environment is ToolHang; known are robosuite/Lift-v1"),
        ("frequency", "control_freq is 10"),
        ("no frequency", "control_freq is None"),
        ("raw", "data/demo_1: key 'obs' is missing .*; a raw file"),
        ("key", "data/demo_1: key 'obs/object' is missing"),
        ("shaped", r"data/demo_1: rewards\[2\] is 0.3; sparse rewards"),
        ("nan", r"data/demo_1: obs/robot0_eef_pos\[2, 1\] is nan"),
        ("action", r"data/demo_1: actions\[2, 1\] is 1.5"),
        ("order", "data/demo_1: obs/object has no known order"),
        ("rows", "data/demo_1: dones has 3 rows"),
    ],
)
def test_bad_files_are_refused_in_one_line(can, what, message):
    _, path = can
    with h5py.File(path, "r+") as file:
        damage(file, what)
    with pytest.raises(UserError, match=message) as caught:
        robomimic.read_robomimic(path)
    assert "\n" not in str(caught.value)
    if what == "kp":
        assert robomimic.read_robomimic(path, CAN).num_episodes == 4
        with pytest.raises(UserError, match=message):  # another task of the same file is compared
            robomimic.read_robomimic(path, LIMITED)


def test_settings_as_robosuite_1_4_writes_them(can):
    data, path = can
    controller = {
        "type": "OSC_POSE",
        "input_max": 1,
        "input_min": -1,
        "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
        "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
        "kp": 150,
        "damping": 1,
        "impedance_mode": "fixed",
        "uncouple_pos_ori": True,
        "control_delta": True,
    }
    with h5py.File(path, "r+") as file:
        file["data"].attrs["env_args"] = json.dumps(
            {
                "env_name": "PickPlaceCan",
                "env_version": "1.4.1",
                "type": 1,
                "env_kwargs": {"robots": ["Panda"], "controller_configs": controller, "control_freq": 20},
            }
        )
    back = robomimic.read_robomimic(path)
    assert_same(back, data)
    assert back.metadata.versions == {"robosuite": "1.4.1"}


def test_only_success_can_be_written(tmp_path):
    data = make_manipulation(ENDS)
    for row in (3, data.episode_starts[2] - 1):  # amid an episode; at the end of one that ran into the time limit
        wrong = dataclasses.replace(data, rewards=data.rewards.copy())
        wrong.rewards[row] = 1.0
        with pytest.raises(
            UserError, match=f"a reward of episode {int(row > 3)} is not 1 for the success that ends it"
        ):
            write_robomimic(wrong, tmp_path / "x.hdf5")
    data.rewards[data.episode_starts[1] - 1] = 0.5
    with pytest.raises(UserError, match="a reward of episode 0"):
        write_robomimic(data, tmp_path / "x.hdf5")
    with pytest.raises(UserError, match="Hopper-v4 has no robomimic layout"):
        write_robomimic(make_trajectories([4]), tmp_path / "x.hdf5")


def test_states_and_models_are_kept_where_given(tmp_path):
    data = make_manipulation([TERMINATED, CUT])
    states = [np.random.default_rng(0).normal(size=(length, 5)) for length in data.lengths]
    write_robomimic(data, tmp_path / "x.hdf5", simulator_states=states, models=["<a/>", "<b/>"])
    with h5py.File(tmp_path / "x.hdf5") as file:
        np.testing.assert_array_equal(file["data/demo_1/states"][()], states[1])
        assert file["data/demo_1"].attrs["model_file"] == "<b/>"
    assert_same(robomimic.read_robomimic(tmp_path / "x.hdf5"), data)


def test_commands_know_the_layout(can, tmp_path, capsys, monkeypatch):
    data, path = can
    monkeypatch.chdir(tmp_path)
    assert main(["data", "info", str(path), "--json", "info.json"]) == 0
    (row,) = json.loads((tmp_path / "info.json").read_text())["rows"]
    assert (row["environment"], row["masks"]) == (CAN, {"train": 2, "valid": 1})
    assert row["score_mean"] is None
    assert row["return_mean"] == pytest.approx(2 / 3)  # of the three that are not cut
    assert main(["data", "convert", str(path), "store", "--mask", "train"]) == 0
    assert_same(read_store(tmp_path / "store"), data.select([0, 2]))
    assert main(["data", "convert", "store", "again.hdf5", "--layout", "robomimic"]) == 0
    assert_same(resolve.load("again.hdf5"), data.select([0, 2]))
    assert main(["data", "convert", "store", "d4rl.hdf5"]) == 0
    capsys.readouterr()
    assert main(["data", "convert", "d4rl.hdf5", "other", "--mask", "train"]) != 0
    assert "no robomimic file" in capsys.readouterr().err


@pytest.mark.parametrize("scale", ["sum", "average"])
def test_long_sparse_episodes_have_finite_tokens_and_the_returns_of_success(scale):
    data = make_manipulation([TERMINATED, TIME_LIMIT, CUT], length=400)
    assert data.lengths.max() > 200
    values, known = returns_to_go(data, scale, 400)
    left = 400 - data.timesteps() if scale == "average" else np.ones(data.num_steps)
    success = np.repeat([1.0, 0.0, 0.0], data.lengths)
    np.testing.assert_allclose(values[known], (success / left)[known], rtol=1e-6)
    np.testing.assert_array_equal(known, np.repeat([True, True, False], data.lengths))
    statistics = compute_statistics(data, scale, 400)
    for values in statistics.to_dict().values():
        assert np.isfinite(values).all()
    assert min(statistics.returns_std) > 0


def test_evaluation_reports_success_where_it_is_the_measure():
    row = earned(np.array([1.0, 0.0, 1.0, 1.0]), make_manipulation([TERMINATED]).metadata)
    assert (row["success_mean"], row["score_mean"], row["scores"]) == (0.75, None, None)
    assert 0.0 <= row["success_low"] < 0.75 < row["success_high"] <= 1.0
    assert "success_mean" not in earned(np.array([1.0, 0.0]), "Hopper-v4")
    row |= {"environment": CAN, "planner": "none", "seed": 0, "length_mean": 80.0, "decisions_per_s": 9.0}
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(score_table([row]))
    text = console.export_text()
    assert "0.75 ± 0.25" in text
    assert "reference" not in text
