"""`m3pc report` on the command line: runs, sweeps, and one line for what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from m3pc_ray.cli import main
from m3pc_ray.configuration import load_config
from tests.report.page.made_up import online, pretrained
from tests.report.page.test_page import data_of
from tests.tune.result_tables import lambda_sweep, write
from tune.sweep_file import load_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write(tmp_path / "lambda", lambda_sweep())


def test_it_writes_the_page_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = online(tmp_path / "run")
    out = tmp_path / "pages" / "report.html"
    assert main(["report", str(run.path), str(run.path), "--out", str(out), "--title", "Night & day"]) == 0
    assert str(out) in capsys.readouterr().out
    page = out.read_text(encoding="utf-8")
    assert "<h1>Night &amp; day</h1>" in page
    assert "one run." in page  # named twice, shown once
    assert f"m3pc report {run.path} {run.path} --out {out} --title &#x27;Night &amp; day&#x27;" in page


def test_a_sweep_brings_its_conclusions(sweep: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert main(["report", str(sweep), "--out", str(out)]) == 0
    page = out.read_text(encoding="utf-8")
    (chart,) = data_of(page)["sweep-lambda"]["charts"]
    assert chart["x"] == "λ (planner.td_lambda)"
    curve, baseline = chart["series"]
    assert curve["x"] == [0, 0.1, 0.3, 0.5, 0.6, 0.7, 0.9]
    assert all(low <= mean <= high for low, mean, high in zip(curve["low"], curve["y"], curve["high"], strict=True))
    assert baseline["label"] == "no planning"
    assert baseline["dash"]
    assert "best: planner.td_lambda 0.5" in page
    assert f"m3pc sweep --config {sweep}/sweep.yaml --out {sweep}-again" in page


def test_runs_of_a_sweep_s_trials_are_on_the_page(sweep: Path, tmp_path: Path) -> None:
    for number, value in enumerate((0.3, 0.3, 0.6)):
        online(sweep / "trials" / f"0000{number}", number % 2, **{"planner.td_lambda": value})
    shutil.copytree(sweep / "trials" / "00000", sweep / "trials" / "00003")
    (sweep / "trials" / "00003" / "metrics.jsonl").unlink()  # has only just begun
    out = tmp_path / "report.html"
    assert main(["report", str(sweep), "--out", str(out)]) == 0
    page = out.read_text(encoding="utf-8")
    assert "3 runs in 2 settings" in page
    assert "td_lambda 0.3" in page


def test_the_command_of_a_sweep_reads_its_definition(tmp_path: Path) -> None:
    """sweep.yaml of a sweep that was run has more keys than a file that is written by hand."""
    definition = tmp_path / "sweep.yaml"
    run = pretrained(tmp_path / "run")
    definition.write_text(
        "name: again\nkind: evaluate\nspace:\n  planner.td_lambda:\n    grid: [0.3, 0.6]\nseeds: [0, 1]\n"
        f"identity: abc\nruns: [{run.path}]\n"
        "scheduler: {name: none, grace_steps: 0, reduction_factor: 3, interval_steps: 0}\n"
        "samples: 1\nsampling_seed: 0\nsearcher: enumerate\ntrial_cpus: 0.0\ntrial_gpus: 0\nmax_concurrent: 1\n"
        "max_failures: 2\nreport_steps: []\nsettings: {}\n"
    )
    assert load_sweep(definition).runs == (str(run.path),)
    assert load_config(run.config_path, {}) == run.config()


def error_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "report.html")
    assert "no such run folder" in error_of(["report", str(tmp_path / "nothing"), "--out", out], capsys)
    (tmp_path / "folder").mkdir()
    assert "not a run of m3pc" in error_of(["report", str(tmp_path / "folder"), "--out", out], capsys)
    run = pretrained(tmp_path / "run")
    assert "is a folder; name a file" in error_of(["report", str(run.path), "--out", str(tmp_path)], capsys)
    below = str(run.metrics_path / "report.html")
    assert "cannot write the page" in error_of(["report", str(run.path), "--out", below], capsys)
    run.metrics_path.write_text("")
    assert "nothing to report" in error_of(["report", str(run.path), "--out", out], capsys)
    assert not Path(out).exists()
    assert "required: --out" in error_of(["report", str(run.path)], capsys)
