"""`m3pc representations` in process: interrupted and resumed, what it writes, and mistakes."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from m3pc_ray.cli import main
from m3pc_ray.representations import study
from m3pc_ray.representations.results import StudyFolder
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.resolve import load
from tests.representations.test_study import without_seconds
from tests.tiny_run import make_tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("representations") / "run"
    folder: RunFolder = make_tiny_run(path, trajectories=load("bundled/hopper"))
    config = folder.config()
    folder.write_config(dataclasses.replace(config, data=dataclasses.replace(config.data, dataset="bundled/hopper")))
    return path


def words(run: Path, out: Path, *more: str) -> list[str]:
    shared = ["--updates", "4", "--every", "2", "--episodes", "2", "--out", str(out)]
    return ["representations", "--run", str(run), *shared, *more]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["rows"])


def test_interrupted_and_resumed_gives_the_rows_of_one_go(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    chosen = ["--variants", "raw,state_frozen"]
    assert main(words(run, once, *chosen, "--json", str(tmp_path / "rows.json"))) == 0
    expected = rows_of(tmp_path / "rows.json")
    assert [(row["variant"], row["updates"]) for row in expected] == [
        (variant, updates) for variant in ("raw", "state_frozen") for updates in (2, 4)
    ]
    assert rows_of(once / "rows.json") == expected
    assert (once / "learning_curves.png").stat().st_size > 10_000
    train, trained = study.train_cell, []

    def interrupting(models: Any, episodes: Any, variant: str, *more: Any) -> Iterator[dict[str, Any]]:
        trained.append(variant)
        for row in train(models, episodes, variant, *more):  # type: ignore[arg-type]
            yield row
            if variant == "state_frozen" and len(trained) == 2:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(study, "train_cell", interrupting)
    capsys.readouterr()
    assert main(words(run, twice, *chosen)) == 130
    assert "finished cells are kept" in capsys.readouterr().out
    assert len((twice / "cells" / "state_frozen-seed0.jsonl").read_text().splitlines()) == 1
    assert main(words(run, twice, *chosen)) == 0
    assert trained == ["raw", "state_frozen", "state_frozen"]  # the finished cell was not trained again
    assert without_seconds(rows_of(twice / "rows.json")) == without_seconds(expected)
    assert main(words(run, twice, "--variants", "raw", "--seeds", "0,1")) == 0
    assert trained == ["raw", "state_frozen", "state_frozen", "raw"]
    assert [row["seed"] for row in rows_of(twice / "rows.json")] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "more, message",
    [
        (["--variants", "raw,tokens"], "--variants raw,tokens: no 'tokens'; there are raw, state_frozen"),
        (["--seeds", "0,x"], "--seeds 0,x: write whole numbers"),
        (["--seeds", "-1"], "seeds are 0 or more"),
        (["--episodes", "0"], "--episodes is 0"),
        (["--every", "9"], "--every is 9, more than --updates (4)"),
        (["--alpha", "nan"], "--alpha is nan"),
        (["--encoder-learning-rate", "0"], "--encoder-learning-rate is 0"),
        (["--threads", "0"], "--threads is 0"),
        (["--json", "."], "--json .: is a folder"),
    ],
)
def test_mistakes_are_one_line(
    run: Path, tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(run, tmp_path / "out", *more)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [["--alpha", "1"], ["--no-bc"], ["--updates", "6"]])
def test_a_folder_holds_one_study(
    run: Path, tmp_path: Path, change: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(words(run, out, "--variants", "raw")) == 0
    before = (out / "rows.json").read_bytes()
    assert main(words(run, out, "--variants", "raw", *change)) == 2
    error = capsys.readouterr().err
    assert "settings.json: this study has other settings" in error
    assert "give another --out" in error
    assert (out / "rows.json").read_bytes() == before


def test_cut_off_and_damaged_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = StudyFolder(tmp_path, {"updates": 4})
    cell = ("raw", 0)
    assert folder.rows(cell) == []
    list(folder.record(cell, iter([{"updates": 2}, {"updates": 4}])))
    assert [row["updates"] for row in folder.rows(cell)] == [2, 4]
    file = folder.file(cell)
    file.write_text(file.read_text()[:-3])
    assert folder.rows(cell) == []  # its last row was being written
    file.write_text("[\n" + file.read_text())
    with pytest.raises(Exception, match="line 1 is no row; delete the file"):
        folder.rows(cell)
    (tmp_path / "settings.json").unlink()
    with pytest.raises(Exception, match="missing, but there are cells"):
        StudyFolder(tmp_path, {"updates": 4})
