"""`m3pc sweep-report` from results.parquet alone: what it prints and writes, and its one-line errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import fs

from m3pc_ray.cli import main
from tests.tune.result_tables import lambda_sweep, report, table, write
from tune.conclusions.conclude import conclude
from tune.folder import SweepFolder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write(tmp_path / "sweep", lambda_sweep())


def test_it_prints_and_writes_what_the_results_say(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep-report", str(sweep), "--json", str(sweep / "again.json")]) == 0
    printed = capsys.readouterr().out
    assert "planner.td_lambda" in printed
    assert "- best: planner.td_lambda 0.5" in printed
    written = json.loads((sweep / "table.json").read_text())
    assert written == json.loads((sweep / "again.json").read_text())
    assert [row["setting"] for row in written["rows"]][:2] == [None, {"planner.td_lambda": 0.0}]
    (best,) = (row for row in written["rows"] if row["best"])
    assert best["setting"] == {"planner.td_lambda": 0.5}
    assert best["low"] <= best["value"] <= best["high"]
    assert best["interval_over"] == "seeds"
    assert [each["seed"] for each in best["replicates"]] == [0, 1, 2]
    assert written["remarks"][0]["environment_steps"] is None
    page = (sweep / "table.md").read_text()
    assert f"| 0.5 | {best['value']:.1f} | {best['low']:.1f} to {best['high']:.1f} | 3 | seeds | best |" in page
    assert all(f"- {remark}" in page for remark in written["remarks"][0]["remarks"])
    assert "![figures/settings.png](figures/settings.png)" in page
    assert (sweep / "figures/settings.png").read_bytes().startswith(b"\x89PNG")
    assert not list(sweep.rglob("*.part"))


def test_a_copy_of_the_results_elsewhere_says_the_same(sweep: Path, tmp_path: Path) -> None:
    conclude(SweepFolder(sweep))
    (tmp_path / "copy").mkdir()
    shutil.copy(sweep / "results.parquet", tmp_path / "copy")
    conclude(SweepFolder(tmp_path / "copy"))
    for name in ("table.json", "table.md"):
        assert (tmp_path / "copy" / name).read_text() == (sweep / name).read_text()


def test_another_file_system(sweep: Path) -> None:
    below = fs.SubTreeFileSystem(str(sweep.parent), fs.LocalFileSystem())
    concluded = conclude(SweepFolder("sweep", below))
    assert concluded.written[0] == "sweep/table.json"
    assert (sweep / "table.json").exists()


def test_the_interquartile_mean_is_said_to_be_one(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep-report", str(sweep), "--statistic", "iqm"]) == 0
    assert "interquartile mean normalised score" in capsys.readouterr().out
    assert json.loads((sweep / "table.json").read_text())["rows"][0]["statistic"] == "iqm"


def test_report_steps_have_a_table_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write(tmp_path / "sweep", lambda_sweep(2, (1000, 5000)))
    assert main(["sweep-report", str(sweep)]) == 0
    printed = capsys.readouterr().out
    assert "at 1,000 environment steps" in printed
    assert "at 5,000 environment steps" in printed
    rows = json.loads((sweep / "table.json").read_text())["rows"]
    assert [row["environment_steps"] for row in rows] == [1000] * 8 + [5000] * 8
    assert (sweep / "figures/learning_curves.png").exists()


def test_missing_trials_are_in_full_in_the_json(tmp_path: Path) -> None:
    value: dict[str, Any] = {"planner.td_lambda": 0.3}
    rows = [report("a", 70.0, **value), report("b", None, seed=1, status="failed", error="no room | here", **value)]
    sweep = write(tmp_path / "sweep", table(rows, {"planner.td_lambda": pa.float64()}))
    conclude(SweepFolder(sweep))
    (row,) = json.loads((sweep / "table.json").read_text())["rows"]
    assert row["low"] is None
    assert row["missing"] == [
        {
            "trial": "b",
            "run": "runs/hopper",
            "seed": 1,
            "status": "failed",
            "environment_steps": 0,
            "error": "no room | here",
        }
    ]
    assert (
        "| 0.3 | 70.0 | - | 1 | no interval: one episode of one seed | best; without a score: 1 failed |"
        in (sweep / "table.md").read_text()
    )


def test_many_settings_are_listed_best_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    varied = {"planner.td_lambda": pa.float64(), "planner.horizon": pa.int64(), "planner.average": pa.string()}
    rows = [
        report(
            f"t{index}", score, **{"planner.td_lambda": 0.1 * index, "planner.horizon": 4, "planner.average": "plain"}
        )
        for index, score in enumerate((31.5, 77.5, 12.5))
    ]
    assert main(["sweep-report", str(write(tmp_path / "sweep", table(rows, varied)))]) == 0
    printed = capsys.readouterr().out
    assert "td lambda   horizon   average" in printed
    assert printed.index(" 77.5 ") < printed.index(" 31.5 ") < printed.index(" 12.5 ")


def test_mistakes_are_one_line(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(folder: Path) -> str:
        assert main(["sweep-report", str(folder)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    assert f"{tmp_path}/nowhere: no such folder of a sweep" in error(tmp_path / "nowhere")
    assert "no such folder of a sweep" in error(sweep / "results.parquet")
    (tmp_path / "empty").mkdir()
    assert "empty: holds no results.parquet" in error(tmp_path / "empty")
    failed = report("a", None, status="failed", error="UserError: no such run", **{"planner.td_lambda": 0.3})
    write(tmp_path / "failed", table([failed], {"planner.td_lambda": pa.float64()}))
    assert "no trial of a setting has finished with a score (1 failed); the first error: UserError" in error(
        tmp_path / "failed"
    )
    whole = (sweep / "results.parquet").read_bytes()
    (sweep / "results.parquet").write_bytes(whole[: len(whole) // 2])
    assert "results.parquet: damaged, no whole Parquet file" in error(sweep)
    middle = bytearray(whole)
    middle[200:400] = bytes(200)
    (sweep / "results.parquet").write_bytes(bytes(middle))
    assert "results.parquet: damaged" in error(sweep)
    (sweep / "results.parquet").write_bytes(whole)
    (sweep / "figures").write_text("a file is in the way")
    assert "figures/settings.png: cannot be written" in error(sweep)
