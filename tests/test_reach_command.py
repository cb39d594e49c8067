"""`m3pc reach` in process, on a small run trained for some steps: what it prints, writes, and says about mistakes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from m3pc_ray.cli import main
from m3pc_ray.config import DataConfig, LoggingConfig, MaskConfig, ModelConfig, PretrainConfig, RunConfig
from m3pc_ray.report.reach_record import read_reach
from m3pc_ray.training.pretraining import Pretraining
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.resolve import load
from tests.swirl import ENVIRONMENT as SWIRL
from tests.tiny_run import make_tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = RunConfig(
        device="cpu",
        data=DataConfig(dataset="bundled/hopper"),
        model=ModelConfig(width=16, heads=2),
        masks=MaskConfig(path_inpainting_weight=0.2),
        pretrain=PretrainConfig(
            components="btm", steps=3, batch_size=8, warmup_steps=1, precision="float32", threads=1
        ),
        logging=LoggingConfig(tensorboard=False),
    )
    folder = RunFolder.create(tmp_path_factory.mktemp("reach") / "run", config, "pretrain")
    Pretraining(folder, config, load("bundled/hopper")).train()
    return folder.path


def reach(run: Path, *words: str, task: str = "hopper-wiggle") -> int:
    return main(["reach", "--run", str(run), "--task", task, "--threads", "1", *words])


def short(out: Path, *words: str) -> list[str]:
    return ["--set", "cycles=1", "--set", "frequency_hz=5", "--out", str(out), "--video-style", "none", *words]


def errors_of(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith("m3pc: error: ")]
    assert "Traceback" not in error
    return line


def test_everything_is_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    target, out = tmp_path / "rows.json", tmp_path / "out"
    words = ["--set", "cycles=2", "--episodes", "2", "--seed", "7", "--video-style", "stick", "--out", str(out)]
    assert reach(run, *words, "--json", str(target)) == 0
    printed = capsys.readouterr()
    tables = [line for line in printed.out.splitlines() if not line.startswith("wrote ") and " waypoints: " not in line]
    assert max(map(len, tables)) <= 80, "tables fit a plain terminal"
    assert "…" not in printed.out, "no cell is cut"
    assert "warning" not in printed.err
    result = json.loads(target.read_text())
    assert list(result) == ["rows"]
    assert [row["planner"] for row in result["rows"]] == ["backward", "goal_mask", "bc"]
    for row in result["rows"]:
        assert (row["task"], row["environment"], row["seeds"]) == ("hopper-wiggle", "Hopper-v4", [7, 8])
        assert row["tracking_error_mean"] == pytest.approx(np.mean(row["tracking_errors"]))
        assert 0.0 <= row["success_rate"] <= 1.0
        assert row["decisions"] == sum(row["lengths"])
        (line,) = [line for line in tables if line.split()[:1] == [row["planner"]]]
        assert f"{row['tracking_error_mean']:.2f} ± {row['tracking_error_sem']:.2f}" in line
    record = read_reach(out / "record")
    assert record.planners == ["backward", "goal_mask", "bc"]
    assert list(record.rows) == result["rows"]
    for name in ("tracking", "cloud", "backward", "goal_mask", "bc"):
        with Image.open(out / f"{name}.png") as image:
            pixels = np.asarray(image.convert("L"))
        assert pixels.std() > 5, f"{name}.png is blank"
    for planner in record.planners:
        with Image.open(out / f"{planner}.gif") as film:
            assert film.n_frames > 3, planner  # type: ignore[attr-defined]
    for line in printed.out.splitlines():
        if line.startswith("wrote "):
            assert Path(line.removeprefix("wrote ")).is_file()


def test_a_second_run_replaces_its_own_record_only(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert reach(run, *short(out, "--episodes", "1", "--planner", "bc")) == 0
    (out / "notes.txt").write_text("a stranger's")
    (tmp_path / "quick_foot.yaml").write_text("task: hopper-wiggle\n")
    task = str(tmp_path / "quick_foot.yaml")
    assert reach(run, *short(out, "--episodes", "2", "--planner", "goal_mask"), task=task) == 0
    assert (out / "notes.txt").read_text() == "a stranger's"
    record = read_reach(out / "record")
    assert (record.planners, len(record.episodes)) == (["goal_mask"], 2)
    assert record.task == "quick-foot", "as the user's file is called, not as what it is made of"


def test_a_strangers_record_folder_is_left_alone(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "song.txt").write_text("la")
    rows = tmp_path / "rows.json"
    assert reach(run, *short(tmp_path, "--episodes", "1", "--json", str(rows))) == 2
    assert "is no record of m3pc reach; give another --out" in errors_of(capsys)
    assert (tmp_path / "record" / "song.txt").read_text() == "la"
    assert not rows.exists(), "said before anything is played"
    assert reach(run, *short(tmp_path / "record" / "song.txt", "--episodes", "1")) == 2
    assert "is no folder, or lies in none" in errors_of(capsys)


def test_the_same_seeds_give_the_same_rows(run: Path, tmp_path: Path) -> None:
    found: list[Any] = []
    for name in ("one", "two"):
        words = short(tmp_path / name, "--episodes", "2", "--planner", "backward", "--json", str(tmp_path / name / "r"))
        assert reach(run, *words) == 0
        (row,) = json.loads((tmp_path / name / "r").read_text())["rows"]
        found.append(row)
    assert found[0] == found[1]


def test_preview_shows_the_waypoints_and_writes_them_for_editing(run: Path, tmp_path: Path) -> None:
    words = ["--preview", "--video-style", "stick", "--set", "cycles=1", "--out", str(tmp_path)]
    assert reach(run, *words) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["preview.gif", "preview.png", "waypoints.csv"]
    with Image.open(tmp_path / "preview.gif") as film:
        assert film.n_frames > 3  # type: ignore[attr-defined]
    csv = str(tmp_path / "waypoints.csv")
    assert reach(run, *short(tmp_path / "back", "--episodes", "1", "--planner", "bc")[4:], task=csv) == 0
    assert read_reach(tmp_path / "back" / "record").task == "waypoints"


def test_planner_settings_of_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They go before those of the task's file, which go before those of the run."""
    task, target = tmp_path / "task.yaml", tmp_path / "rows.json"
    task.write_text("task: hopper-wiggle\nbackward:\n  missed: wait\n  wait_steps: 4\n  completion_rounds: 1\n")
    words = short(tmp_path / "out", "--episodes", "1", "--planner", "backward", "--json", str(target))
    given = ["--backward.missed", "wait", "--backward.wait_steps", "3"]
    assert reach(run, *words, *given, task=str(task)) == 0
    (row,) = json.loads(target.read_text())["rows"]
    chosen = {name: row["backward"][name] for name in ("missed", "wait_steps", "completion_rounds", "tolerance")}
    assert chosen == {"missed": "wait", "wait_steps": 3, "completion_rounds": 1, "tolerance": 0.5}
    assert row["checkpoint"] == 3, "the newest, by its step"
    assert reach(run, *words, "--backward.missed", "never") == 2
    assert "backward.missed" in errors_of(capsys)


def test_a_preview_leaves_the_users_waypoints_alone(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert reach(run, *short(out)[:-2], "--preview", "--video-style", "stick") == 0
    table = out / "waypoints.csv"
    made = table.read_bytes()
    assert reach(run, *short(out)[:-2], "--preview", "--video-style", "stick") == 0, "the same again"
    table.write_bytes(made + b"\n")
    capsys.readouterr()
    assert reach(run, *short(out)[:-2], "--preview", "--video-style", "stick") == 2
    assert "waypoints.csv: holds other waypoints" in errors_of(capsys)
    assert table.read_bytes() == made + b"\n"


def test_films_of_an_earlier_comparison_do_not_stand_beside_a_new_one(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [*short(out)[:-2], "--episodes", "1"]
    assert reach(run, *words, "--planner", "bc", "--video-style", "stick") == 0
    (out / "mine.txt").write_text("kept")
    assert (out / "bc.gif").exists()
    assert reach(run, *words, "--planner", "backward", "--video-style", "none") == 0
    assert not (out / "bc.gif").exists()
    assert (out / "mine.txt").read_text() == "kept"


def test_a_run_without_the_masks_of_backward_planning_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blind = make_tiny_run(tmp_path / "run")
    words = short(tmp_path / "out", "--episodes", "1", "--planner", "backward")
    assert reach(blind.path, *words) == 2
    assert "--dataset" in errors_of(capsys), "its data set is gone"
    assert reach(blind.path, *words, "--dataset", "bundled/hopper") == 0
    assert "m3pc: warning: the run was trained without the masks of backward planning" in capsys.readouterr().err
    config = dataclasses.replace(blind.config(), masks=MaskConfig(path_inpainting_weight=0.1))
    seeing = RunFolder.create(tmp_path / "seeing", config, "pretrain")
    shutil.copytree(blind.path / "checkpoints", seeing.path / "checkpoints", dirs_exist_ok=True)
    assert reach(seeing.path, *words, "--dataset", "bundled/hopper") == 0
    assert "trained without the masks" not in capsys.readouterr().err


def test_an_environment_that_nobody_can_draw(
    swirl_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures and the numbers come all the same; a film that was asked for is refused before anything is played."""
    csv = tmp_path / "way.csv"
    csv.write_text("step,0,1\n5,0.3,0.3\n9,-0.3,0.3\n")
    target = tmp_path / "rows.json"
    words = ["--out", str(tmp_path / "out"), "--episodes", "1"]
    for more in (["--video-style", "stick"], ["--preview"]):
        assert reach(swirl_run, *words, *more, task=str(csv)) == 2
        assert "MuJoCo" in errors_of(capsys)
    assert not (tmp_path / "out" / "record").exists()
    assert reach(swirl_run, *words, "--json", str(target), task=str(csv)) == 0
    assert "m3pc: warning: there are no films: " in capsys.readouterr().err
    assert {row["environment"] for row in json.loads(target.read_text())["rows"]} == {SWIRL}
    assert read_reach(tmp_path / "out" / "record").labels == ("observation 0", "observation 1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "cycles"], "--set cycles: write it as NAME=VALUE"),
        (["--set", "cycle=1"], "did you mean cycles"),
        (["--set", "frequency_hz=0"], "frequency_hz: must be in (0, inf)"),
        (["--set", "frequency_hz=70"], "frequency_hz is 70.0; observations every 0.008 s show"),
        (["--set", "every=5000"], "every is 5000; the task is over after"),
        (["--set", "frequency_hz=fast"], "must be a number, not fast"),
        (["--task", "hopper-wigle"], "did you mean hopper-wiggle"),
        (["--task", "walker2d-split"], "is made for Walker2d"),
        (["--task", "{folder}/none.csv"], "no such file"),
        (["--task", "{folder}/wide.py:wide"], "made waypoints of 3 dimensions; 11 are needed"),
        (["--task", "{folder}/odd.csv"], "unknown column 'wing'"),
        (["--task", "{folder}/text.yaml"], "text.yaml"),
        (["--planner", "best"], "invalid choice"),
        (["--episodes", "0"], "--episodes is 0"),
        (["--slow-motion", "0"], "--slow-motion is 0"),
        (["--dataset", "{folder}/gone"], "--dataset"),
        (["--checkpoint", "99"], "99"),
        (["--run", "{folder}/none"], "no such run folder"),
        (["--preview", "--video-style", "none"], "--preview shows the waypoints"),
    ],
)
def test_mistakes_end_in_one_line(
    run: Path, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wide.py").write_text("import numpy as np\ndef wide(name, size): return np.zeros((4, 3))\n")
    (tmp_path / "odd.csv").write_text("wing\n1\n")
    (tmp_path / "text.yaml").write_text("just words\n")
    assert reach(run, *[word.format(folder=tmp_path) for word in words], "--out", str(tmp_path / "out")) == 2
    assert message in errors_of(capsys)
    assert not (tmp_path / "out").exists()
