"""What `m3pc compare` refuses: one line that names what is wrong."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack

import h5py
import numpy as np
import pytest

from m3pc_ray import cli
from m3pc_ray.comparison import plan
from m3pc_ray.comparison.plan import evaluation_points
from m3pc_ray.comparison.registry import METHODS
from m3pc_ray.training.run_folder import lock_file
from m3pc_ray.trajectories.resolve import load
from m3pc_ray.trajectories.store import write_store
from tests.comparison.factory import compare, register


@pytest.fixture(autouse=True)
def methods(monkeypatch):
    register(monkeypatch)


def error(capsys):
    said = capsys.readouterr().err.strip()
    assert said.startswith("m3pc: error: ")
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    "words, named",
    [
        (["--methods", "stil"], "--methods stil: no such method; did you mean still?"),
        (["--methods", "lacking"], "--methods lacking: needs no_such_package, which is not installed; install it"),
        (["--methods", "still", "--seeds", "0,x"], "--seeds 0,x"),
        (["--methods", "still", "--episodes", "0"], "--episodes is 0; at least 1"),
        (["--methods", "still", "--threads", "0"], "--threads is 0; at least 1"),
        (["--methods", "still", "--online-steps", "-1"], "--online-steps is -1; at least 0"),
        (["--methods", "still", "--updates", "still"], "--updates still: must be NAME=N"),
        (["--methods", "still", "--updates", "still=0"], "--updates still=0: at least 1"),
        (["--methods", "still", "--updates", "steady=5"], "--updates steady: steady is not among --methods still"),
        (["--methods", "m3pc", "--updates", "m3pc=5"], "must be one of m3pc.btm, m3pc.critic"),
    ],
)
def test_bad_options(tmp_path, capsys, words, named):
    out = tmp_path / "out"
    assert cli.main(["compare", "--out", str(out), "--data", "bundled/hopper", *words]) == 2
    assert named in error(capsys)
    assert not out.exists()


def test_data_without_an_environment(tmp_path, capsys):
    path = tmp_path / "mine.hdf5"
    with h5py.File(path, "w") as file:
        for name, size in (("observations", 3), ("actions", 2)):
            file[name] = np.zeros((4, size), np.float32)
        file["rewards"] = np.zeros(4, np.float32)
        file["terminals"] = file["timeouts"] = np.zeros(4, bool)
    assert compare(tmp_path / "out", "--data", str(path)) == 2
    assert "no environment is named" in error(capsys)


def test_no_data_and_no_comparison(tmp_path, capsys):
    assert compare(tmp_path / "out") == 2
    assert "--data: name at least one data set" in error(capsys)
    assert compare(tmp_path / "out", "--table") == 2
    assert "no comparison is there" in error(capsys)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert compare(tmp_path / "other", "--data", "bundled/hopper", "--methods", "still") == 2
    assert "not empty and no comparison" in error(capsys)


def test_what_all_cells_share_cannot_change(tmp_path, capsys):
    out, store = tmp_path / "out", tmp_path / "few"
    data = load("bundled/hopper")
    write_store(data.select(range(10)), store)
    first = ("--data", str(store), "--methods", "still,steady", "--online-steps", "100", "--updates", "still=4")
    assert compare(out, *first) == 0
    assert compare(out, *first) == 0  # said again it is the same
    settings = tmp_path / "settings.yaml"
    settings.write_text("model: {width: 16}\n")
    capsys.readouterr()
    for words, named in (
        (("--episodes", "3"), "--episodes 3"),
        (("--online-steps", "200"), "--online-steps 200"),
        (("--threads", "2"), "--threads 2"),
        (("--updates", "still=5"), "--updates still= 5"),
        (("--config", str(settings)), "--config"),
    ):
        assert compare(out, *words) == 2
        said = error(capsys)
        assert named in said
        assert str(out) in said
    write_store(data.select(range(11)), store, overwrite=True)
    assert compare(out, "--data", str(store)) == 2
    assert "other data called" in error(capsys)
    assert compare(out, "--seeds", "1") == 2
    assert f"{store}: has changed since" in error(capsys)


def test_a_comparison_goes_on_where_its_data_lies_elsewhere(tmp_path):
    out, first, second = tmp_path / "out", tmp_path / "a" / "few", tmp_path / "b" / "few"
    for store in (first, second):
        write_store(load("bundled/hopper").select(range(10)), store)
    assert compare(out, "--data", str(first), "--methods", "still") == 0
    shutil.rmtree(first)
    assert compare(out, "--seeds", "1") == 2
    assert compare(out, "--data", str(second), "--seeds", "1") == 0
    assert json.loads((out / "settings.json").read_text())["datasets"]["few"]["reference"] == str(second)
    assert compare(out, "--seeds", "2") == 0
    assert len(list((out / "cells" / "few").iterdir())) == 6


def test_points():
    assert evaluation_points(0, 5) == ()
    assert evaluation_points(10_000, 5_000) == (5_000, 10_000)
    assert evaluation_points(12_000, 5_000) == (5_000, 10_000, 12_000)
    assert evaluation_points(100, 5_000) == (100,)


def test_every_method_can_be_loaded_and_says_what_it_may_spend():
    rows = [row for method in METHODS.values() for row in method.rows]
    assert len(set(rows)) == len(rows)
    for name in ("m3pc", "td3+bc", "bc", "iql", "cql"):
        method = METHODS[name]
        assert callable(method.load())
        assert set(method.online_rows) <= set(method.rows)
        assert min(method.budget.values()) > 0


def test_settings_wait_for_another_process_that_writes_them(tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert compare(out, "--data", "bundled/hopper", "--methods", "still") == 0
    before = (out / "settings.json").read_text()
    monkeypatch.setattr(plan, "LOCK_SECONDS", 0.2)
    with lock_file(out / "locks" / "settings.lock", "held"):
        assert compare(out, "--seeds", "1") == 2
        assert (out / "settings.json").read_text() == before
    released = []

    def release(_seconds):
        if holder:  # methods sleep too
            released.append(holder.pop().close())

    holder = [ExitStack()]
    holder[0].enter_context(lock_file(out / "locks" / "settings.lock", "held"))
    monkeypatch.setattr(plan.time, "sleep", release)
    assert compare(out, "--seeds", "1") == 0
    assert len(released) == 1
    assert json.loads((out / "settings.json").read_text())["seeds"] == [0, 1]
