"""results.parquet: one row a report and step, the newest marked, on disk after every change."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from m3pc_ray.errors import UserError
from tune.conclusions.ranking import conclude_from
from tune.conclusions.reports import read_reports
from tune.definition import Sweep
from tune.folder import SweepFolder
from tune.results import ResultsFile, read_results
from tune.sweep_file import read_sweep


@pytest.fixture
def sweep() -> Sweep:
    space = {"planner.td_lambda": [0, 0.3], "planner.num_candidates": [8, 16], "planner.guide": ["return", "critic"]}
    return read_sweep({"name": "s", "kind": "finetune", "space": space, "report_steps": [100, 200]}, "test")


def trial(name: str, td_lambda: float = 0.3, seed: int = 0) -> dict[str, Any]:
    settings = {"planner.td_lambda": td_lambda, "planner.num_candidates": 8, "planner.guide": "critic"}
    where = {"run": "/runs/hopper", "environment": "Hopper-v5", "dataset": "bundled/hopper"}
    return {"trial": name, "seed": seed, "baseline": False, **where, **settings}


def score(step: int, mean: float) -> dict[str, Any]:
    episodes = {"scores": [mean - 1, mean + 1], "returns": [30 * mean] * 2}
    counts = {"report_step": step, "environment_steps": step + 3, "seconds": 1.0, "planner": "critic"}
    return {**counts, "score": mean, "return": 30 * mean, **episodes, "checkpoint": ""}


def test_every_change_is_on_disk(sweep: Sweep, tmp_path: Path) -> None:
    """Against a plain account of what was reported, in random order."""
    folder, rng = SweepFolder(tmp_path / "s"), random.Random(random.SystemRandom().randrange(10**6))
    results = ResultsFile(folder, sweep)
    account: dict[tuple[str, int], float] = {}
    newest: dict[str, int] = {}
    for _ in range(40):
        name, step, mean = f"{rng.randrange(5):05d}", rng.choice([0, 100, 200]), rng.uniform(0, 100)
        results.report(trial(name), score(step, mean))
        account[name, step], newest[name] = mean, step
        rows = read_results(folder).to_pylist()
        assert {(row["trial"], row["report_step"]): row["score"] for row in rows} == account
        assert {row["trial"]: row["report_step"] for row in rows if row["last"]} == newest
        assert ResultsFile(folder, sweep).rows == rows
        found = results.newest(name)
        assert found is not None
        assert found["score"] == mean


def test_ends_of_trials(sweep: Sweep, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "s")
    results = ResultsFile(folder, sweep)
    results.ended(trial("00000"), "running")  # nothing to say yet
    assert results.status("00000") == ""
    results.report(trial("00000"), score(100, 50.0))
    assert results.status("00000") == "running"
    results.ended(trial("00000"), "finished")
    results.ended(trial("00001", seed=1), "failed", "no such data set")  # it had no report
    again = ResultsFile(folder, sweep)
    assert (again.status("00000"), again.status("00001")) == ("finished", "failed")
    assert again.newest("00001") is None
    (failed,) = (row for row in again.rows if row["trial"] == "00001")
    assert (failed["score"], failed["error"], failed["planner.td_lambda"]) == (None, "no such data set", 0.3)
    again.report(trial("00001", seed=1), score(100, 60.0))  # taken up again
    again.ended(trial("00001", seed=1), "finished")
    rows = [row for row in ResultsFile(folder, sweep).rows if row["trial"] == "00001"]
    assert [(row["status"], row["score"], row["error"]) for row in rows] == [("finished", 60.0, "")]


def test_conclusions_read_it(sweep: Sweep, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "s")
    results = ResultsFile(folder, sweep)
    for number, (td_lambda, seed) in enumerate([(0.0, 0), (0.3, 0), (0.0, 1), (0.3, 1)]):
        for step in (100, 200):
            results.report(trial(f"{number:05d}", td_lambda, seed), score(step, 50.0 + 10 * td_lambda + seed + step))
        results.ended(trial(f"{number:05d}", td_lambda, seed), "finished")
    at_100, at_200 = conclude_from(read_reports(read_results(folder), "test"), "mean", "test")
    for conclusion, step in ((at_100, 100), (at_200, 200)):
        means = [row.estimate.value for row in conclusion.rows if row.estimate is not None]
        assert means == pytest.approx([50.5 + step, 53.5 + step])


def test_a_damaged_file_stops_the_sweep(sweep: Sweep, tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "s")
    folder.write("results.parquet", b"PAR1 and then nothing")
    with pytest.raises(UserError, match="s/results.parquet: damaged, no whole Parquet file"):
        ResultsFile(folder, sweep)
