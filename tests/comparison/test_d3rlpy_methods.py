"""d3rlpy's methods as seen from here, against a program that stands in for the other environment's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
from safetensors.numpy import load_file

from m3pc_ray.comparison import child
from m3pc_ray.comparison.method import Assignment
from m3pc_ray.comparison.methods import d3rlpy
from m3pc_ray.comparison.registry import METHODS
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories
from tests.comparison.recorder import Recorder, nothing

PROGRAM = Path(__file__).with_name("fake_program.py")
LOW, HIGH = (-2.0, -1.0), (2.0, 3.0)


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python that runs the stand-in whatever it is asked to run."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PROGRAM}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv(d3rlpy.PYTHON_VARIABLE, str(python))
    monkeypatch.setattr(child, "LOOK_SECONDS", 0.02)
    return python


def some_trajectories(seed: int) -> Trajectories:
    """Three episodes, one with each kind of end; the cut one's last successor is unknown."""
    rng = np.random.default_rng(seed)
    starts = np.array([0, 4, 9, 12])
    finals = rng.normal(size=(3, 3)).astype(np.float32)
    finals[2] = np.nan
    metadata = DatasetMetadata("some", "Some-v0", (-np.inf,) * 3, (np.inf,) * 3, LOW, HIGH, max_episode_steps=5)
    return Trajectories(
        rng.normal(size=(12, 3)).astype(np.float32),
        rng.uniform(LOW, HIGH, size=(12, 2)).astype(np.float32),
        rng.normal(size=12).astype(np.float32),
        starts,
        np.array([EpisodeEnd.TERMINATED, EpisodeEnd.TIME_LIMIT, EpisodeEnd.CUT]),
        finals,
        metadata,
    )


def assigned(
    folder: Path, seed: int = 0, points: tuple[int, ...] = (), updates: int = 10, **changes: Any
) -> Assignment:
    """10 updates in a folder that is there."""
    folder.mkdir(exist_ok=True)
    values: dict[str, Any] = {"trajectories": some_trajectories(seed), "seed": seed, **changes}
    return Assignment("some", "", folder=folder, budget={"updates": updates}, points=points, **values)


def behaving(folder: Path, behaviour: str) -> Assignment:
    folder.mkdir()
    (folder / "behaviour").write_text(behaviour)
    return assigned(folder)


def test_points_come_in_order_with_policies_that_act_as_their_layers_say(tmp_path: Path) -> None:
    seed = int(np.random.default_rng().integers(10_000))
    folder, told = tmp_path / "work", []

    class Waiting(Recorder):
        def __call__(self, point: int, *rest: Any, **named: Any) -> Any:
            assert not (folder / f"went-on-after-{point}").exists()  # it waits while the point is played
            return super().__call__(point, *rest, **named)

    recorder = Waiting()
    d3rlpy.awac(assigned(folder, seed, (20, 35)), recorder, lambda *progress: told.append(progress))
    assert list(recorder.kept) == [0, 20, 35]
    assert (folder / "went-on-after-35").exists()
    assert list(dict.fromkeys(told)) == [("start of d3rlpy", 0, 1), ("update", 1, 10)]
    assert [updates for updates, _ in recorder.kept.values()] == [10, 30, 45]
    observations = np.random.default_rng(seed).normal(size=(7, 3)).astype(np.float32)
    for point, (_, policy) in recorder.kept.items():
        layers = load_file(d3rlpy.policy_path(folder, point))
        hidden = np.maximum(observations @ layers["layer0.weight"].T + layers["layer0.bias"], 0.0)
        expected = np.tanh(hidden @ layers["layer1.weight"].T + layers["layer1.bias"])
        np.testing.assert_allclose(policy(observations), expected, atol=1e-6)
    assert "a warning that is no message" in (folder / "d3rlpy.log").read_text()


def test_what_is_known_is_given_again_without_a_program_and_online_steps_may_be_added(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    for _ in range(2):
        recorder = Recorder()
        d3rlpy.iql(assigned(folder), recorder, nothing)
        assert list(recorder.kept) == [0]
    assert (folder / "starts").read_text() == "x"
    longer = Recorder()
    d3rlpy.iql(assigned(folder, points=(20, 40)), longer, nothing)
    assert list(longer.kept) == [0, 20, 40]
    assert (folder / "starts").read_text() == "xx"


@pytest.mark.parametrize(
    "changes, named",
    [({"updates": 11}, "updates"), ({"points": (30,)}, "points"), ({"points": ()}, "points"), ({"seed": 1}, "seed")],
)
def test_a_folder_of_another_assignment_is_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    folder = tmp_path / "work"
    d3rlpy.iql(assigned(folder, points=(20,)), Recorder(), nothing)
    with pytest.raises(UserError, match=rf"work: begun with other {named}.* remove it to train anew"):
        d3rlpy.iql(assigned(folder, **{"points": (20,), **changes}), Recorder(), nothing)
    known = json.loads((folder / "assignment.json").read_text())
    (folder / "assignment.json").write_text(json.dumps({"method": "iql-d3rlpy", "stop": 0, "threads": 1}))
    with pytest.raises(UserError, match="begun with other .* or by an older version"):
        d3rlpy.iql(assigned(folder, points=(20,)), Recorder(), nothing)
    (folder / "assignment.json").write_text(json.dumps(known))
    again = Recorder()
    d3rlpy.iql(assigned(folder, points=(20,), threads=2), again, nothing)  # threads change nothing that is learnt
    assert list(again.kept) == [0, 20]


def test_what_is_written_holds_the_data(tmp_path: Path) -> None:
    seed = int(np.random.default_rng().integers(10_000))
    work = assigned(tmp_path / "work", seed)
    trajectories = work.trajectories
    d3rlpy.prepare("awac", work)
    table = parquet.read_table(tmp_path / "work" / "transitions.parquet")
    columns = {name: np.array(table.column(name).to_pylist()) for name in table.column_names}
    np.testing.assert_array_equal(columns["observations"].astype(np.float32), trajectories.observations)
    np.testing.assert_allclose(columns["actions"] * [2.0, 2.0] + [0.0, 1.0], trajectories.actions, atol=1e-6)
    np.testing.assert_array_equal(columns["rewards"].astype(np.float32), trajectories.rewards)
    np.testing.assert_array_equal(columns["episode"], [0] * 4 + [1] * 5 + [2] * 3)
    np.testing.assert_array_equal(columns["terminated"], trajectories.terminated())
    np.testing.assert_array_equal(np.flatnonzero(~columns["usable"]), [11])  # nobody saw what followed
    following = trajectories.next_observations()[:11]
    np.testing.assert_array_equal(columns["next_observations"][:11].astype(np.float32), following)


def test_episodes_without_actions_are_left_out(tmp_path: Path) -> None:
    whole = some_trajectories(1)
    known = np.ones(12, dtype=bool)
    known[2] = False
    d3rlpy.prepare("awac", assigned(tmp_path / "a", trajectories=replace(whole, actions_known=known)))
    assert parquet.read_metadata(tmp_path / "a" / "transitions.parquet").num_rows == 8
    nowhere = assigned(tmp_path / "b", trajectories=replace(whole, actions_known=np.zeros_like(known)))
    with pytest.raises(UserError, match="every episode lacks actions or rewards"):
        d3rlpy.prepare("awac", nowhere)


def test_a_program_that_fails_is_quoted(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    with pytest.raises(
        UserError, match=r"some: d3rlpy's training ended with code 3: .*unheard of.*update 7: critic_loss.*d3rlpy\.log"
    ) as caught:
        d3rlpy.iql(behaving(folder, "crash"), Recorder(), nothing)
    assert "compare-env" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "critic_loss" in (folder / "d3rlpy.log").read_text()


def test_an_environment_without_d3rlpy_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"code 1: .*No module named .*`make compare-env` makes its environment anew"):
        d3rlpy.iql(behaving(tmp_path / "work", "lacks d3rlpy"), Recorder(), nothing)


def test_ctrl_c_lets_it_write_a_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    asked: list[str] = []

    def once(phase: str, _done: int, _total: int) -> None:
        if phase == "update" and not asked:
            asked.append(phase)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        d3rlpy.iql(behaving(folder, "works for ever"), Recorder(), once)
    assert (folder / "checkpoint").read_text() == "written after the signal"


def test_ctrl_c_ends_a_program_that_is_still_loading(tmp_path: Path) -> None:
    calls: list[str] = []

    def once(phase: str, _done: int, _total: int) -> None:
        calls.append(phase)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        d3rlpy.iql(behaving(tmp_path / "work", "loads for ever"), Recorder(), once)
    assert set(calls) == {"start of d3rlpy"}  # it is called though nothing is said: the account goes on


def test_an_interruption_while_a_point_is_played_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, started, popen = tmp_path / "work", [], subprocess.Popen

    def start(*words: Any, **named: Any) -> Any:
        started.append(popen(*words, **named))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(KeyboardInterrupt):
        d3rlpy.iql(assigned(folder, points=(20,)), Recorder(stop_at=0), nothing)
    assert started[0].poll() is not None
    assert not (folder / "went-on-after-0").exists()
    recorder = Recorder()
    d3rlpy.iql(assigned(folder, points=(20,)), recorder, nothing)
    assert list(recorder.kept) == [0, 20]


def test_no_environment_says_what_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(d3rlpy.PYTHON_VARIABLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(d3rlpy.m3pc_ray, "__file__", str(tmp_path / "clone" / "m3pc_ray" / "__init__.py"))
    with pytest.raises(UserError, match="run `make compare-env` in a clone"):
        METHODS["awac"].check_installed()
    (tmp_path / ".venv-compare").mkdir()
    with pytest.raises(UserError, match="make compare-env"):  # an installation that was broken off does not count
        d3rlpy.find_python()
    (tmp_path / ".venv-compare" / ".made").touch()
    assert d3rlpy.find_python() == tmp_path / ".venv-compare" / "bin" / "python"
    monkeypatch.setenv(d3rlpy.PYTHON_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=f"{d3rlpy.PYTHON_VARIABLE}=.*nowhere: no such file"):
        d3rlpy.find_python()
