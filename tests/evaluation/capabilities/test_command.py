"""`m3pc capabilities` on a small run: rows, figures, kept baselines, one-line mistakes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from m3pc_ray.cli import main
from m3pc_ray.evaluation.capabilities import fitted
from m3pc_ray.evaluation.capabilities.tables import remarks
from m3pc_ray.model.mlp import MLPConfig, Training
from m3pc_ray.report import capabilities
from m3pc_ray.report.capabilities import summary_bars
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.store import write_store
from tests.tiny_run import make_tiny_run, random_hopper_episodes

TINY = Training(3, 16, config=MLPConfig(width=8, hidden_layers=1))
FIGURES = ("dynamics.png", "returns.png", "calibration.png", "summary.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("capabilities")
    write_store(random_hopper_episodes(), folder / "data")
    return make_tiny_run(folder / "run")


def command(run: RunFolder, *words: str) -> list[str]:
    data = run.path.parent / "data"
    return ["capabilities", "--run", str(run.path), "--dataset", str(data), "--quick", "--episodes", "2", *words]


def test_rows_figures_and_kept_baselines(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "deep" / "rows.json"
    assert main(command(run, "--json", str(target))) == 0
    printed = capsys.readouterr().out
    folder = run.path / "capabilities"
    result = json.loads(target.read_text())
    assert json.loads((folder / "rows.json").read_text()) == result
    rows = result["rows"]
    assert all(isinstance(row["capability"], str) and np.isfinite(row["error"]) for row in rows)
    ahead = [row for row in rows if row["capability"] == "forward_dynamics"]
    assert [row["steps_ahead"] for row in ahead] == [1, 2, 3, 4, 5, 6, 7]
    assert all(np.isfinite([row["no_change_error"], row["mlp_error"], row["mlp_seconds"]]).all() for row in ahead)
    assert ahead[0]["mlp_budget_fraction"] == 1.0, "the run had one update"
    assert ahead[0]["mlp_batch_size"] == 256 * 8
    assert {row["capability"] for row in rows} == {
        "forward_dynamics",
        "inverse_dynamics",
        "reward_prediction",
        "return_prediction",
        "path_inpainting",
        "behaviour_cloning",
        "return_conditioned",
        "return_conditioned_sweep",
        "return_conditioned_sweep_summary",
        "calibration",
        "calibration_summary",
    }
    for name in FIGURES:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert "forward dynamics" in printed
    tables = [line for line in printed.splitlines() if not line.startswith(("worse", "earns", "quick", "/"))]
    assert max(map(len, tables)) <= 80, "the tables fit a plain terminal"

    def never(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(fitted, "FITS", dict.fromkeys(fitted.FITS, never))
    monkeypatch.setattr(capabilities, "draw_capabilities", lambda *_: [])  # the same rows, and drawing takes seconds
    assert main(command(run, "--json", str(target))) == 0
    assert json.loads(target.read_text()) == result, "a second call gives the same, bit for bit"


def test_a_baseline_is_kept_for_its_data_and_settings(tmp_path: Path) -> None:
    data = random_hopper_episodes(3)
    steps: list[int] = []

    def count(step: int, _steps: int) -> None:
        steps.append(step)

    first = fitted.fit("dynamics", data, TINY, tmp_path, count)
    assert len(steps) == 3
    again = fitted.fit("dynamics", data, TINY, tmp_path, count)
    assert len(steps) == 3
    inputs = np.ones((2, 14))
    np.testing.assert_array_equal(first.network.predict(inputs), again.network.predict(inputs))
    assert (again.seconds, again.rows, again.parameters) == (first.seconds, first.rows, first.parameters)
    other = dataclasses.replace(data, rewards=data.rewards + 1)
    for changed in ((other, TINY), (data, dataclasses.replace(TINY, seed=1))):
        before = len(steps)
        fitted.fit("dynamics", *changed, tmp_path, count)
        assert len(steps) == before + 3
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:40])
    fitted.fit("dynamics", data, TINY, tmp_path, count)
    assert len(steps) == 12, "a damaged file is trained again"
    assert not list(tmp_path.glob("*.partial"))


def test_remarks_name_what_is_worse() -> None:
    dynamics = [
        {
            "capability": "forward_dynamics",
            "steps_ahead": ahead,
            "error": 0.1,
            "mlp_error": mlp,
            "mlp_budget_fraction": 1,
        }
        for ahead, mlp in ((1, 0.05), (2, 0.2))
    ]
    path = {"capability": "path_inpainting", "mask_was_trained": True, "steps_between": 3, "mask": "path_inpainting"}
    rows = [*dynamics, path | {"error": 0.3, "interpolation_error": 0.1}]
    said = remarks(rows)
    assert len(said) == 2
    assert said[0] == "worse than the MLP: forward dynamics 1 ahead (2.0 to 2.0 times)"
    assert "path, 3 steps (3.0" in said[1]
    assert remarks([dynamics[1]]) == []
    played = {"capability": "behaviour_cloning", "mask": "behaviour_cloning", "error": 0.102, "mlp_error": 0.1}
    played |= {"return_mean": 90.0, "return_sem": 1.0, "mlp_return_mean": 100.0, "mlp_return_sem": 1.0}
    assert remarks([played | {"data_return_mean": 80.0}]) == [
        "earns less than the MLP clone: behaviour cloning (90 against 100)"
    ]
    assert remarks([played | {"data_return_mean": 80.0, "mlp_return_sem": 9.5}]) == [], "within the uncertainty"
    assert remarks([played | {"data_return_mean": 800.0}]) == [], "next to nothing on this task"
    assert summary_bars(rows)[-1] == ("states between, 3 steps", "straight line", pytest.approx(3.0))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "{none}"], "no such run folder"),
        (["--run", "{run}", "--episodes", "0"], "--episodes is 0"),
        (["--run", "{run}", "--seed", "-1"], "--seed"),
        (["--run", "{run}", "--checkpoint", "99"], "99"),
        (["--run", "{run}"], "no such file, folder or data set"),
        (["--run", "{run}", "--dataset", "{none}"], "no such file"),
        (["--run", "{run}", "--threads", "0"], "--threads"),
        (["--run", "{run}", "--json", "/"], "--json /: is a folder"),
        (["--run", "{run}", "--dataset", "{data}", "--out", "{run}/config.yaml"], "--out"),
    ],
)
def test_mistakes_end_in_one_line(
    run: RunFolder, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [word.format(run=run.path, none=tmp_path / "none", data=run.path.parent / "data") for word in words]
    assert main(["capabilities", *filled]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
