"""`m3pc evaluate`, `diagnose` and `figures` on a small run: exit codes, JSON, what they leave behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3pc_ray.cli import main
from m3pc_ray.errors import UserError
from m3pc_ray.training.pretraining import load_data
from m3pc_ray.training.run_folder import RunFolder
from tests.tiny_run import make_tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_tiny_run(tmp_path_factory.mktemp("commands") / "run")


def test_evaluate_writes_rows_and_scores(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "deep" / "scores.json"
    words = ["evaluate", "--run", str(run.path), "--planner", "none", "--planner", "critic", "--json", str(target)]
    assert main([*words, "--episodes", "2", "--seed", "9"]) == 0
    result = json.loads(target.read_text())
    assert list(result) == ["rows"]
    assert [(row["planner"], row["episodes"], row["seed"]) for row in result["rows"]] == [
        ("none", 2, 9),
        ("critic", 2, 9),
    ]
    for row in result["rows"]:
        assert {"score_mean", "score_sem", "return_mean", "return_min", "decisions_per_s", "length_mean"} <= set(row)
        assert {name for name, value in row.items() if isinstance(value, dict | list)} == {"returns", "scores"}
        assert sum(row["scores"]) / 2 == pytest.approx(row["score_mean"])
    assert run.summary()["scores"] == {row["planner"]: row["score_mean"] for row in result["rows"]}
    printed = capsys.readouterr().out
    assert "critic" in printed
    assert max(map(len, printed.splitlines())) <= 80, "the table fits a plain terminal"


def test_other_planner_settings_leave_the_summary_alone(run: RunFolder, tmp_path: Path) -> None:
    before = run.summary()["scores"]
    target = tmp_path / "scores.json"
    words = ["evaluate", "--run", str(run.path), "--planner", "return", "--episodes", "1", "--json", str(target)]
    assert main([*words, "--planner.num_candidates", "3", "--planner.utility_sharpness_return", "2"]) == 0
    (row,) = json.loads(target.read_text())["rows"]
    assert (row["num_candidates"], row["utility_sharpness"]) == (3, 2.0)
    assert run.summary()["scores"] == before


def test_evaluating_reads_no_data_set(tmp_path: Path) -> None:
    run = make_tiny_run(tmp_path / "run")
    with pytest.raises(UserError, match="no such file, folder or data set"):
        load_data(run.config())
    assert main(["evaluate", "--run", str(run.path), "--planner", "critic", "--episodes", "1"]) == 0


def test_without_planner_everything_possible_is_evaluated(tmp_path: Path) -> None:
    run = make_tiny_run(tmp_path / "run", critic_updates=0)
    assert main(["evaluate", "--run", str(run.path), "--episodes", "1"]) == 0
    assert set(run.summary()["scores"]) == {"none", "return"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "--run", "{none}"], "no such run folder"),
        (["evaluate", "--run", "{run}", "--planner", "critic"], "no trained critic"),
        (["evaluate", "--run", "{run}", "--planner", "best"], "invalid choice"),
        (["evaluate", "--run", "{run}", "--episodes", "0"], "evaluation.episodes"),
        (["evaluate", "--run", "{run}", "--threads", "0"], "--threads"),
        (["evaluate", "--run", "{run}", "--checkpoint", "99"], "99"),
        (["evaluate", "--run", "{run}", "--planner.candidates", "3"], "no such option"),
        (["diagnose", "--run", "{run}", "--states", "0"], "--states"),
        (["figures", "--run", "{run}", "--timestep", "-1"], "--timestep"),
    ],
)
def test_mistakes_end_in_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_tiny_run(tmp_path / "run", critic_updates=0)
    assert main([word.format(run=run.path, none=tmp_path / "none") for word in words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("m3pc: error: ")
    assert error.count("\n") == 1
    assert message in error


def test_diagnose_prints_and_writes_a_row_per_planner(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "diagnosis.json"
    words = ["diagnose", "--run", str(run.path), "--states", "2", "--candidates", "3", "--rollout-steps", "4"]
    assert main([*words, "--json", str(target)]) == 0
    rows = json.loads(target.read_text())["rows"]
    assert [(row["kind"], row["planner"]) for row in rows] == [("planner", "return"), ("planner", "critic")]
    assert "rank correlation" in capsys.readouterr().out


def test_figures_draws_a_plan(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", "--run", str(run.path), "--out", str(tmp_path), "--timestep", "3"]) == 0
    (line,) = capsys.readouterr().out.split()
    assert Path(line).read_bytes().startswith(b"\x89PNG")
