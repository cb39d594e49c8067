"""What exploring earned: episodes read from runs and sweeps, statistics over them, the histograms, the command."""

import json
from pathlib import Path

import matplotlib.axes
import numpy as np
import pytest

from m3pc_ray.cli import main
from m3pc_ray.config import LoggingConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.report.exploration import (
    BINS,
    bin_edges,
    by_explorer,
    exploration_returns,
    explorer_label,
    online_runs,
    statistics,
)
from m3pc_ray.training.metrics import MetricLogger
from m3pc_ray.training.run_folder import RunFolder
from tests.tiny_run import make_tiny_run

PLANNED, SAMPLED = [300.0, 100.0, 200.0], [10.0, 30.0]


def online_run(path: Path, returns: list[float], **settings: str) -> RunFolder:
    """A run with whole episodes of those returns 100 steps apart, and one that was cut after them."""
    run = make_tiny_run(path)
    run.write_config(with_settings(run.config(), {name.replace("__", "."): value for name, value in settings.items()}))
    run.write_summary({"kind": "finetune"})
    logger = MetricLogger(run, LoggingConfig(tensorboard=False), "episodes")
    for index, value in enumerate(returns):
        row = {"return": value, "length": 50 + index, "worker": 0, "end": "terminated" if index else "time_limit"}
        logger.log(100 * (index + 1), row)
    logger.log(100 * len(returns), {"return": 9999.0, "length": 7, "worker": 1, "end": "cut"})
    return run


def one_task(run: RunFolder) -> str:
    """The environment of every run here."""
    return "Hopper-v4"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep's folder with two trials that planned and one that sampled."""
    trials = tmp_path / "sweep/trials"
    online_run(trials / "00000", PLANNED)
    online_run(trials / "00001", [500.0])
    online_run(trials / "00002", SAMPLED, online__guide="none")
    return trials.parent


def test_episodes_are_read_as_they_were_written(tmp_path: Path) -> None:
    episodes = exploration_returns(online_run(tmp_path / "run", PLANNED).path)
    assert [episode.total_reward for episode in episodes] == [*PLANNED, 9999.0]
    assert [episode.whole for episode in episodes] == [True, True, True, False]
    assert (episodes[1].step, episodes[1].length, episodes[1].end) == (200, 51, "terminated")
    assert exploration_returns(make_tiny_run(tmp_path / "pretrained")) == []


def test_every_way_to_explore_has_its_label(tmp_path: Path) -> None:
    config = make_tiny_run(tmp_path / "run").config()
    fixed = {"online.action_noise": "fixed", "planner.action_noise": "fixed"}
    deterministic = {**fixed, "pretrain.action_loss": "squared_error"}
    labels = {
        explorer_label(with_settings(config, {"online.guide": guide, **settings}))
        for guide in ("critic", "none")
        for settings in ({}, fixed, deterministic)
    }
    assert len(labels) == 6
    assert explorer_label(config) == "planning"
    assert "planning over fixed noise (deterministic model)" in labels


def test_statistics_are_of_whole_episodes_of_all_runs(sweep: Path) -> None:
    planned, sampled = statistics(by_explorer(online_runs([sweep]), one_task))
    assert (planned["explorer"], sampled["explorer"]) == ("planning", "sampling, no planning")
    assert (planned["runs"], planned["episodes"], planned["cut"]) == (2, 4, 2)
    assert planned["returns"] == [*PLANNED, 500.0]
    assert planned["mean"] == pytest.approx(np.mean([*PLANNED, 500.0]))
    assert planned["best"] == 500.0
    assert sampled["median"] == 20.0
    assert sampled["length_mean"] == 50.5
    late, _ = statistics(by_explorer(online_runs([sweep]), one_task), last_steps=150)
    assert late["returns"] == [100.0, 200.0, 500.0]


def test_bins_hold_all_returns() -> None:
    assert len(bin_edges(np.array([1.0, 5.0]))) == BINS + 1
    assert (bin_edges(np.array([1.0, 5.0]))[[0, -1]] == [1.0, 5.0]).all()
    low, high = bin_edges(np.array([40.0]))[[0, -1]]
    assert low < 40.0 < high


def test_the_command_prints_draws_and_writes(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    hist = matplotlib.axes.Axes.hist

    def spy(self, values, edges, **options):  # type: ignore[no-untyped-def]
        drawn.append((list(values), tuple(edges), hist(self, values, edges, **options)[0]))
        return hist(self, values, edges, **options)

    monkeypatch.setattr(matplotlib.axes.Axes, "hist", spy)
    more = online_run(tmp_path / "more", [50.0], online__guide="none")
    target, file = tmp_path / "figures", tmp_path / "rows.json"
    assert main(["exploration", str(sweep), str(more.path), "--out", str(target), "--json", str(file)]) == 0
    assert "sampling" in capsys.readouterr().out
    assert (target / "exploration.png").read_bytes().startswith(b"\x89PNG")
    assert [values for values, _, _ in drawn] == [[*PLANNED, 500.0], [*SAMPLED, 50.0]]
    assert drawn[0][1] == drawn[1][1]
    assert [pytest.approx(1.0)] * 2 == [shares.sum() for _, _, shares in drawn]
    assert [row["runs"] for row in json.loads(file.read_text())["rows"]] == [2, 2]


def test_what_cannot_be_compared_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "figures")]
    pretrained = make_tiny_run(tmp_path / "pretrained")
    assert main(["exploration", str(pretrained.path), *out]) == 2
    assert "is no online run" in capsys.readouterr().err
    empty = online_run(tmp_path / "empty", [])
    assert main(["exploration", str(empty.path), *out]) == 2
    assert "no exploration episode has ended by itself" in capsys.readouterr().err
    assert main(["exploration", str(empty.path), "--last-steps", "0", *out]) == 2
    assert "--last-steps is 0" in capsys.readouterr().err
    assert main(["exploration", str(tmp_path / "absent"), *out]) == 2


def test_several_environments_are_refused(sweep: Path) -> None:
    with pytest.raises(UserError, match="different environments"):
        by_explorer(online_runs([sweep]), lambda run: run.path.name)
