"""`m3pc plan` and `m3pc video` in process: what they write and say, what Ctrl-C leaves, what mistakes are told."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from m3pc_ray.cli import main
from m3pc_ray.evaluation import considered as considered_module
from m3pc_ray.report.plans.record import read_plan_record
from tests.tiny_run import CHECKPOINT_STEP, make_tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("commands") / "run").path


def mistake(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("m3pc: error: ")
    assert error.count("\n") == 1
    return error


def test_plan_writes_page_and_record(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, words = tmp_path / "page.html", ["--planner", "return", "--every", "3", "--seed", "4", "--threads", "1"]
    assert main(["plan", "--run", str(run), *words, "--out", str(page)]) == 0
    said = capsys.readouterr().out
    record = read_plan_record(page.with_suffix(".npz"))
    steps = len(record["actions"])
    assert f"{steps} steps (terminated), return {record.about['return']:.0f}, score" in said
    assert record["steps"].tolist() == list(range(0, steps, 3))
    assert record.about["planner"] == "return"
    assert record.about["checkpoint"] == CHECKPOINT_STEP
    assert record.about["return"] == pytest.approx(float(record["rewards"].sum()), rel=1e-5)
    before = page.read_text()
    page.unlink()
    assert main(["plan", "--record", str(page.with_suffix(".npz"))]) == 0
    assert page.read_text() == before


def test_plan_keeps_the_steps_asked_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--run", str(run), "--steps", "1:4", "--sample", "--seed", "4", "--threads", "1"]) == 0
    assert "every decision" not in capsys.readouterr().out
    record = read_plan_record(run / "plans" / "critic-4.npz")
    assert record["steps"].tolist() == [1, 2, 3]
    assert (record["chosen"] >= 0).all()
    assert len(record["actions"]) <= 4 + 8
    assert (run / "plans" / "critic-4.html").is_file()


def test_control_c_keeps_what_was_done(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts_of = considered_module.contexts_of

    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return contexts_of(*arguments)

    monkeypatch.setattr(considered_module, "contexts_of", interrupted)
    page = tmp_path / "page.html"
    words = ["plan", "--run", str(run), "--every", "1", "--threads", "1", "--out", str(page)]
    monkeypatch.setattr("m3pc_ray.evaluation.record_plans.carry_out", lambda *_: None)
    assert main(words) == 130
    record = read_plan_record(page.with_suffix(".npz"))
    assert record["steps"].tolist() == [0]
    assert record.get("carried_out") is None
    assert page.is_file()


def test_mistakes_of_plan(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = ["plan", "--run", str(run)]
    assert "--steps 5: write it as FROM:TO" in mistake(capsys, *plan, "--steps", "5")
    assert "FROM must be at least 0 and below TO" in mistake(capsys, *plan, "--steps", "5:5")
    assert "--every is 0" in mistake(capsys, *plan, "--every", "0")
    assert "--seed is -1" in mistake(capsys, *plan, "--seed", "-1")
    assert "ends in .html" in mistake(capsys, *plan, "--out", "page.txt")
    assert "beyond the time limit of 1000 steps" in mistake(capsys, *plan, "--steps", "1000:1001")
    assert "before decision 500" in mistake(capsys, *plan, "--steps", "500:501", "--threads", "1")
    assert "one of the arguments --run --record is required" in mistake(capsys, "plan")
    assert "m3pc plan --run RUN" in mistake(capsys, "plan", "--record", str(tmp_path / "none.npz"))


def test_video_films_episodes_one_after_another(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = tmp_path / "film.gif"
    words = ["--planner", "none", "--episodes", "2", "--max-steps", "6", "--video-style", "stick", "--threads", "1"]
    words += ["--slow-motion", "8", "--width", "96", "--height", "80"]
    assert main(["video", "--run", str(run), *words, "--out", str(film)]) == 0
    said = capsys.readouterr().out
    assert "planner none, seed 1000: 6 steps (cut), return" in said
    assert "seed 1001: 6 steps" in said
    with Image.open(film) as animation:
        assert animation.size[0] == 96
        duration = 0
        for frame in range(animation.n_frames):
            animation.seek(frame)
            duration += animation.info["duration"]
    # 7 states of 0.008 s, eight times slower, every state at most 30 a second, and the pause: twice.
    assert 2 * (7 * 64 + 500) * 0.75 < duration < 2 * (7 * 64 + 500) * 1.25


def test_video_of_what_was_played_until_control_c(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from m3pc_ray.evaluation import play

    positions = play.to_environment_range

    def interrupted(*arguments: Any) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGINT)
        return positions(*arguments)

    monkeypatch.setattr(play, "to_environment_range", interrupted)
    film = tmp_path / "film.gif"
    words = ["--planner", "none", "--episodes", "9", "--video-style", "stick", "--threads", "1", "--out", str(film)]
    assert main(["video", "--run", str(run), *words]) == 130
    said = capsys.readouterr().out
    assert "seed 1000: 1 steps (cut)" in said
    assert "seed 1001" not in said
    assert film.is_file()


def test_mistakes_of_video(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = ["video", "--run", str(run), "--out", "film.gif"]
    assert "a video's name ends in" in mistake(capsys, *video[:-1], "film.avi")
    assert "--episodes is 0" in mistake(capsys, *video, "--episodes", "0")
    assert "--max-steps is 0" in mistake(capsys, *video, "--max-steps", "0")
    assert "--slow-motion is 0" in mistake(capsys, *video, "--slow-motion", "0")
    assert "--width is 5" in mistake(capsys, *video, "--width", "5")
    assert "--seed is -1" in mistake(capsys, *video, "--seed", "-1")


def test_video_where_nothing_draws(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("MUJOCO_GL", "off")
    words = ["video", "--run", str(run), "--out", "film.gif", "--video-style", "rendered"]
    assert "--video-style stick, which needs no OpenGL" in mistake(capsys, *words)
