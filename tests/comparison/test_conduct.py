"""Comparisons end to end with methods that cost nothing: what is made, kept, continued, left to others."""

from __future__ import annotations

import json
import time

import numpy as np
import pyarrow.parquet as parquet
import pytest

from m3pc_ray.baselines.feedforward_agent import FeedforwardAgent
from m3pc_ray.comparison.folder import CellKey, ComparisonFolder
from m3pc_ray.config import EvaluationConfig
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.evaluation.evaluate import run_episodes
from m3pc_ray.training.run_folder import lock_file
from m3pc_ray.trajectories.resolve import load
from m3pc_ray.trajectories.store import write_store
from tests.comparison.factory import CALLS, EVENTS, compare, constant, register

DATA = ("--data", "bundled/hopper")
ONLINE = ("--online-steps", "250", "--evaluate-every", "100")


@pytest.fixture(autouse=True)
def methods(monkeypatch):
    register(monkeypatch)


def cells(out):
    return {(c["row"], c["seed"], c["point"]): c for c in ComparisonFolder(out).read()}


def test_cells_hold_what_the_same_episodes_earn_when_played_by_hand(tmp_path):
    assert compare(tmp_path, *DATA, "--methods", "steady,still", "--seeds", "0,2", *ONLINE) == 0
    found = cells(tmp_path)
    assert sorted(found) == sorted(
        [("steady", seed, point) for seed in (0, 2) for point in (0, 100, 200, 250)]
        + [(row, seed, 0) for seed in (0, 2) for row in ("still-a", "still-b")]
    )
    data = load("bundled/hopper")
    with EnvironmentGroup("Hopper-v4", 1) as group:
        agent = FeedforwardAgent(constant(0.1 * 2 + 1e-4 * 250, 3), data.metadata)
        episodes = run_episodes(agent, group, EvaluationConfig(episodes=2, seed=51_000))
    cell = found["steady", 2, 250]
    assert cell["returns"] == episodes.returns.tolist()
    assert cell["lengths"] == episodes.lengths.tolist()
    low, high = data.metadata.reference_min_score, data.metadata.reference_max_score
    np.testing.assert_allclose(cell["scores"], 100 * (episodes.returns - low) / (high - low))
    assert cell["score_mean"] == pytest.approx(np.mean(cell["scores"]))
    assert (cell["updates"], cell["environment_steps"], cell["threads"]) == (257, 250, 1)
    assert json.loads(cell["budget"]) == {"updates": 7}
    assert "torch" in json.loads(cell["versions"])
    # Two rows that act alike have earned the same: nothing of one evaluation reaches into the next.
    assert found["still-a", 0, 0]["returns"] == found["still-b", 0, 0]["returns"] == found["steady", 0, 0]["returns"]
    table = parquet.read_table(tmp_path / "comparison.parquet").to_pylist()
    assert len(table) == len(found)


def test_an_offline_comparison_may_go_online_later(tmp_path):
    assert compare(tmp_path / "later", *DATA, "--methods", "steady,still") == 0
    before = cells(tmp_path / "later")
    CALLS.clear()
    assert compare(tmp_path / "later", *ONLINE) == 0
    assert CALLS == ["bundled-hopper steady s0", "record 0", "record 100", "record 200", "record 250"]
    after = cells(tmp_path / "later")
    assert {key: after[key] for key in before} == before
    assert compare(tmp_path / "at-once", *DATA, "--methods", "steady,still", *ONLINE) == 0
    at_once = cells(tmp_path / "at-once")
    assert {key: cell["returns"] for key, cell in after.items()} == {k: cell["returns"] for k, cell in at_once.items()}
    assert compare(tmp_path / "later", "--evaluate-every", "50") == 2


def test_evaluation_is_not_counted(tmp_path):
    EVENTS.update(work_seconds=0.1, act_seconds=0.005)  # an episode takes 20 actions at least
    started = time.monotonic()
    assert compare(tmp_path, *DATA, "--methods", "steady", *ONLINE) == 0
    elapsed = time.monotonic() - started
    found = cells(tmp_path)
    for cell in found.values():
        assert cell["wall_seconds"] >= 0.1
        assert cell["evaluation_seconds"] >= 0.1
    played = sum(cell["evaluation_seconds"] for cell in found.values())
    assert found["steady", 0, 250]["wall_seconds_total"] <= elapsed - played
    assert found["steady", 0, 250]["wall_seconds_total"] == pytest.approx(
        sum(cell["wall_seconds"] for cell in found.values())
    )


@pytest.mark.parametrize("point", [0, 200])
def test_interrupted_it_goes_on_and_replays_nothing(tmp_path, point):
    EVENTS.update(break_at=point, work_seconds=0.1)
    words = (*DATA, "--methods", "steady", *ONLINE)
    assert compare(tmp_path, *words) == 130
    before = cells(tmp_path)
    assert sorted(key[2] for key in before) == [each for each in (0, 100, 200, 250) if each < point]
    CALLS.clear()
    assert compare(tmp_path, *words) == 0
    assert f"record {point}" in CALLS
    after = cells(tmp_path)
    assert sorted(key[2] for key in after) == [0, 100, 200, 250]
    assert {key: after[key] for key in before} == before
    # Both sittings count: the stage was worked on twice.
    assert after["steady", 0, point]["wall_seconds"] >= 0.2
    assert after["steady", 0, 250]["wall_seconds"] >= 0.1


def test_a_table_grows_by_methods_seeds_and_data(tmp_path, capsys):
    out = tmp_path / "out"
    assert compare(out, *DATA, "--methods", "still") == 0
    old = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/*")}
    assert compare(out, "--methods", "steady") == 0  # data and seeds as they are
    assert compare(out, "--seeds", "0,1") == 0  # methods as they are: both
    second = tmp_path / "second"
    data = load("bundled/hopper").select(range(20))
    write_store(data, second)
    capsys.readouterr()
    CALLS.clear()
    assert compare(out, "--data", str(second), "--methods", "still", "--seeds", "1") == 0
    assert len(CALLS) == 1
    assert {path: path.stat().st_mtime_ns for path in old} == old
    rows = {(c["dataset"], c["row"], c["seed"]) for c in ComparisonFolder(out).read()}
    assert len(rows) == 3 * 2 + 2
    CALLS.clear()
    assert compare(out, "--table") == 0
    assert CALLS == []
    assert "Still A" in capsys.readouterr().out


def test_what_another_process_is_at_is_left_to_it(tmp_path, capsys):
    assert compare(tmp_path, *DATA, "--methods", "still") == 0
    with lock_file(tmp_path / "locks" / "bundled-hopper-steady-s0.lock", "held"):
        assert compare(tmp_path, "--methods", "steady") == 0
    assert "steady-s0" in capsys.readouterr().out
    assert ("steady", 0, 0) not in cells(tmp_path)
    assert compare(tmp_path, "--methods", "steady") == 0
    assert ("steady", 0, 0) in cells(tmp_path)


def test_a_method_that_records_too_little_or_elsewhere_is_a_defect(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="forgetful-s0"):
        compare(tmp_path, *DATA, "--methods", "forgetful")
    monkeypatch.setattr(
        "tests.comparison.factory.still", lambda given, record, report: record(5, 1, constant(0.0, 3), "still-a")
    )
    with pytest.raises(ValueError, match="still-a"):
        compare(tmp_path, "--methods", "still")


def test_a_damaged_cell_is_named(tmp_path, capsys):
    assert compare(tmp_path, *DATA, "--methods", "still") == 0
    path = ComparisonFolder(tmp_path).cells / CellKey("bundled-hopper", "still-b", 0, 0).file
    path.write_bytes(path.read_bytes()[:40])
    assert compare(tmp_path, "--table") == 2
    assert "still-b-s0-00000000.parquet: not a cell of a comparison" in capsys.readouterr().err
