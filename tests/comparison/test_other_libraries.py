"""Methods of Stable-Baselines3 and of d3rlpy: what they record, how they go on, and d3rlpy's side without d3rlpy."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from m3pc_ray.comparison.method import OFFLINE, Assignment, Played
from m3pc_ray.comparison.methods import d3rlpy, sac
from m3pc_ray.config import EvaluationConfig
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.episodes import EpisodeEnd
from tests.tiny_run import random_hopper_episodes

POINTS = (30, 60)


class Recorder:
    """Keeps what is recorded; interrupts where it is told to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.kept, self.stop_at = {}, stop_at

    def __call__(self, point, updates, policy, row="", environment_steps=None):
        if point == self.stop_at:
            raise KeyboardInterrupt
        self.kept[point] = (updates, policy)
        return {}


def nothing(_phase, _done, _total):
    pass


def assigned(folder, method, budget, **changes):
    folder.mkdir(exist_ok=True)
    values = {
        "dataset": "tiny",
        "reference": "",
        "trajectories": random_hopper_episodes(3, seed=4),
        "seed": 5,
        "folder": folder,
        "budget": budget,
        "points": POINTS,
        "evaluation": EvaluationConfig(episodes=2, seed=77),
    }
    return Assignment(**{**values, **changes})


@pytest.mark.parametrize("method", ["sac", "rlpd"])
def test_sac_records_every_point_and_goes_on_after_an_interruption(tmp_path, monkeypatch, method):
    monkeypatch.setattr(sac, "LEARNING_STARTS", 20)
    work = assigned(tmp_path, method, {"updates_per_step": 1})
    first = Recorder(stop_at=POINTS[1])
    with pytest.raises(KeyboardInterrupt):
        getattr(sac, method)(work, first, nothing)
    assert list(first.kept) == [POINTS[0]]
    second = Recorder()
    getattr(sac, method)(work, second, nothing)
    assert list(second.kept) == [POINTS[1]]
    assert second.kept[POINTS[1]][0] - first.kept[POINTS[0]][0] == POINTS[1] - POINTS[0]
    actions = second.kept[POINTS[1]][1](work.trajectories.observations[:7])
    assert actions.shape == (7, 3)
    assert np.abs(actions).max() <= 1


def test_transitions_are_the_episodes_in_unit_actions(tmp_path):
    trajectories = random_hopper_episodes(4, seed=1)
    d3rlpy.write_transitions(trajectories, tmp_path / "t.parquet")
    table = parquet.read_table(tmp_path / "t.parquet")
    np.testing.assert_array_equal(np.stack(table["observation"].to_numpy()), trajectories.observations)
    np.testing.assert_allclose(np.stack(table["action"].to_numpy()), trajectories.actions, atol=1e-6)  # Hopper: (-1, 1)
    np.testing.assert_array_equal(table["reward"].to_numpy(), trajectories.rewards)
    last = trajectories.episode_starts[1:] - 1
    terminated = trajectories.episode_ends == EpisodeEnd.TERMINATED
    assert np.flatnonzero(table["terminated"].to_numpy()).tolist() == last[terminated].tolist()
    assert np.flatnonzero(table["cut"].to_numpy()).tolist() == last[~terminated].tolist()


def test_episodes_without_actions_are_left_out_of_what_d3rlpy_gets(tmp_path):
    whole = random_hopper_episodes(3, seed=1)
    first = slice(0, int(whole.episode_starts[1]))
    known = np.ones(len(whole.rewards), dtype=bool)
    known[first] = False
    d3rlpy.write_transitions(replace(whole, actions_known=known), tmp_path / "t.parquet")
    assert parquet.read_metadata(tmp_path / "t.parquet").num_rows == len(whole.rewards) - first.stop
    with pytest.raises(UserError, match="no episode has all of its actions"):
        d3rlpy.write_transitions(replace(whole, actions_known=np.zeros_like(known)), tmp_path / "t.parquet")


def test_a_policy_of_arrays_is_the_perceptron_they_are(tmp_path):
    rng = np.random.default_rng(3)
    sizes, arrays = (11, 16, 16, 3), {}
    for i, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        arrays |= {f"weight{i}": rng.normal(size=(outputs, inputs)).astype(np.float32)}
        arrays |= {f"bias{i}": rng.normal(size=outputs).astype(np.float32)}
    np.savez(tmp_path / "p.npz", **arrays)
    observations = rng.normal(size=(9, 11)).astype(np.float32)
    hidden = observations.astype(np.float64)
    for i in range(3):
        hidden = (np.maximum(hidden, 0) if i else hidden) @ arrays[f"weight{i}"].T + arrays[f"bias{i}"]
    policy = d3rlpy.load_policy(tmp_path / "p.npz", updates=12)
    np.testing.assert_allclose(policy(observations), np.tanh(hidden), atol=1e-5)
    (tmp_path / "p.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"p\.npz: damaged"):
        d3rlpy.load_policy(tmp_path / "p.npz", updates=12)


STAND_IN = """#!{python}
import json, sys
from dataclasses import replace
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as parquet
folder = Path(sys.argv[-1])
work = json.loads((folder / "assignment.json").read_text())
stop = work["stop"]
with (folder / "stages").open("a") as file:
    file.write(f"{{stop}} ")
if work["method"] == "cal-ql" and stop == 60:
    sys.exit("the critic burst")
rows = parquet.read_metadata(folder / "transitions.parquet").num_rows
played = work["method"] == "dt"
returns = [float(work["evaluation"]["seed"]), float(rows)] if played else None
columns = {{"updates": [work["updates"] + stop], "returns": [returns], "lengths": [[3, 4] if played else None]}}
types = {{"updates": pa.int64(), "returns": pa.list_(pa.float64()), "lengths": pa.list_(pa.int64())}}
parquet.write_table(
    pa.table({{k: pa.array(v, types[k]) for k, v in columns.items()}}), folder / f"result-{{stop:08d}}.parquet"
)
np.savez(folder / f"policy-{{stop:08d}}.npz", weight0=np.full((3, 11), stop, np.float32), bias0=np.zeros(3, np.float32))
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A program in the place of the other environment's Python, which keeps to the exchange and trains nothing."""
    import sys

    path = tmp_path / "python"
    path.write_text(STAND_IN.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv(d3rlpy.PYTHON_VARIABLE, str(path))


def test_stages_run_one_after_another_and_each_once(tmp_path, stand_in):
    work = assigned(tmp_path / "awac", "awac", {"updates": 7})
    with pytest.raises(KeyboardInterrupt):
        d3rlpy.awac(work, Recorder(stop_at=30), nothing)
    recorder = Recorder()
    d3rlpy.awac(work, recorder, nothing)
    assert (tmp_path / "awac" / "stages").read_text().split() == ["0", "30", "60"]
    assert {point: updates for point, (updates, _) in recorder.kept.items()} == {OFFLINE: 7, 30: 37, 60: 67}
    observation = np.full((1, 11), 1e-4, dtype=np.float32)
    np.testing.assert_allclose(recorder.kept[60][1](observation), np.tanh(np.full((1, 3), 60 * 11e-4)), rtol=1e-5)


def test_a_decision_transformer_plays_with_our_resets(tmp_path, stand_in):
    work = assigned(tmp_path / "dt", "dt", {"updates": 7}, points=())
    recorder = Recorder()
    d3rlpy.decision_transformer(work, recorder, nothing)
    assert recorder.kept[OFFLINE] == (7, Played([77.0, float(len(work.trajectories.rewards))], [3, 4]))


def test_a_program_that_fails_says_why(tmp_path, stand_in):
    work = assigned(tmp_path / "calql", "cal-ql", {"updates": 7})
    with pytest.raises(UserError, match="d3rlpy's training ended with code 1: the critic burst"):
        d3rlpy.cal_ql(work, Recorder(), nothing)


def test_without_its_environment_the_error_says_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.delenv(d3rlpy.PYTHON_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(d3rlpy.m3pc_ray, "__file__", str(tmp_path / "m3pc_ray" / "__init__.py"))
    with pytest.raises(UserError, match="make compare-env"):
        d3rlpy.find_python()
    monkeypatch.setenv(d3rlpy.PYTHON_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(UserError, match=d3rlpy.PYTHON_VARIABLE):
        d3rlpy.find_python()


def other_environment() -> Path | None:
    try:
        return d3rlpy.find_python()
    except UserError:
        return None


@pytest.mark.slow
@pytest.mark.skipif(other_environment() is None, reason="needs the environment that `make compare-env` makes")
@pytest.mark.parametrize("method", ["awac", "iql", "cal_ql"])
def test_d3rlpy_itself_trains_exports_and_goes_online(tmp_path, method):
    """The program compares the exported policy with d3rlpy's own predictions, and fails where they differ."""
    trajectories = random_hopper_episodes(30, seed=4)
    work = assigned(tmp_path, method, {"updates": 20}, points=(1_100,), trajectories=trajectories)
    recorder = Recorder()
    getattr(d3rlpy, method)(work, recorder, nothing)
    assert recorder.kept[OFFLINE][0] == 20
    assert recorder.kept[1_100][0] == 20 + 100  # the first 1,000 steps only fill the buffer
    offline, online = (recorder.kept[point][1](trajectories.observations[:50]) for point in (OFFLINE, 1_100))
    assert not np.array_equal(offline, online)
    assert json.loads((tmp_path / "model.json").read_text()) == {"updates": 120, "steps": 1_100}
