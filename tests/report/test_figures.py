"""Figures: what is read from metrics.jsonl, what is drawn, and that the moment of a plan is what happened."""

from __future__ import annotations

from pathlib import Path

import matplotlib.axes
import numpy as np
import pytest

from m3pc_ray.agent import Agent
from m3pc_ray.config import LoggingConfig
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.moment import record_moment
from m3pc_ray.report.figures import count, learning_curve, plan_figure, training_curves
from m3pc_ray.report.metrics import read_metrics, smooth
from m3pc_ray.training.metrics import MetricLogger
from m3pc_ray.training.run_folder import RunFolder
from tests.tiny_run import make_tiny_run

QUIET = LoggingConfig(tensorboard=False)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_tiny_run(tmp_path / "run")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Everything drawn with a label: label -> (x, y)."""
    drawn: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    plot = matplotlib.axes.Axes.plot

    def spy(self, x, y, **options):  # type: ignore[no-untyped-def]
        if "label" in options:
            drawn.setdefault(options["label"], (np.asarray(x), np.asarray(y)))
        return plot(self, x, y, **options)

    monkeypatch.setattr(matplotlib.axes.Axes, "plot", spy)
    return drawn


def test_metrics_are_read_back_in_order_and_past_a_torn_line(run: RunFolder) -> None:
    logger = MetricLogger(run, QUIET, "evaluation")
    logger.log(20, {"a": 2.0})
    logger.log(10, {"a": 1.0, "b": float("nan")})
    MetricLogger(run, QUIET, "other").log(5, {"a": 7.0})
    with run.metrics_path.open("a") as file:
        file.write('{"stream": "evaluation", "ste')
    metrics = read_metrics(run)
    steps, values = metrics.series("evaluation", "a")
    assert (steps.tolist(), values.tolist()) == ([10.0, 20.0], [1.0, 2.0])
    assert [len(part) for part in metrics.series("evaluation", "b")] == [0, 0]
    assert metrics.names("evaluation") == ["a", "b"]


def test_learning_curve_draws_each_planner(
    run: RunFolder, tmp_path: Path, lines: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    target = tmp_path / "deep" / "curve.png"
    with pytest.raises(UserError, match="holds no evaluation"):
        learning_curve(run, target)
    logger = MetricLogger(run, QUIET, "evaluation")
    for step in (0, 500, 1000):
        logger.log(step, {"none/score_mean": 1.0 + step, "none/score_sem": 0.5, "critic/score_mean": 2.0})
    assert learning_curve(run.path, target, baselines={"data set": 10.0}) == target
    assert target.read_bytes().startswith(b"\x89PNG")
    assert lines["BTM, one mask"][1].tolist() == [1.0, 501.0, 1001.0]
    assert lines["M³PC-Q"][0].tolist() == [0.0, 500.0, 1000.0]


def test_learning_curve_falls_back_to_returns(
    run: RunFolder, tmp_path: Path, lines: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    MetricLogger(run, QUIET, "evaluation").log(0, {"none/return_mean": 321.0, "none/score_mean": None})
    learning_curve(run, tmp_path / "curve.png")
    assert lines["BTM, one mask"][1].tolist() == [321.0]


def test_training_curves(run: RunFolder, tmp_path: Path, lines: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    with pytest.raises(UserError, match="no training metrics"):
        training_curves(run, tmp_path / "training.png")
    logger = MetricLogger(run, QUIET, "btm")
    logger.log(50, {"states_error": 0.5, "entropy": -1.0})
    logger.log(100, {"states_error": 0.25, "validation/states_error/1_ahead": 0.125})
    MetricLogger(run, QUIET, "critic").log(1000, {"value_loss": 0.75, "updates_per_second": 9.0})
    training_curves(run, tmp_path / "training.png")
    assert lines["value loss"][1].tolist() == [0.75]
    assert "updates per second" not in lines
    assert lines["states error"][1].tolist() == [0.5, 0.25]
    assert lines["states error: 1 ahead"][1].tolist() == [0.125]
    assert (tmp_path / "training.png").stat().st_size > 20_000


def test_unwritable_figures_are_explained(run: RunFolder, tmp_path: Path) -> None:
    MetricLogger(run, QUIET, "btm").log(50, {"states_error": 0.5})
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the figure"):
        training_curves(run, tmp_path / "file" / "training.png")


def test_a_moment_is_what_the_agent_did(
    run: RunFolder, tmp_path: Path, lines: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    agent = Agent.load(run.path, planner="critic")
    moment = record_moment(agent, timestep=4, seed=3)
    assert moment.timestep == 4
    assert moment.past.shape == (4, 11)
    details = moment.details
    from m3pc_ray.environments import make_environment

    environment = make_environment("Hopper-v4")
    observation, _ = environment.reset(seed=3)
    seen = [observation]
    for step in range(4 + len(moment.future)):
        action = agent.plan(np.float32(observation)[np.newaxis], step == 0, streams=[3]).actions[0]
        if step == 4:
            np.testing.assert_allclose(action, moment.action, atol=1e-5)
        observation = environment.step(action)[0]
        seen.append(observation)
    np.testing.assert_allclose(moment.past, seen[1:5], atol=1e-6)
    np.testing.assert_allclose(moment.future, seen[5 : 5 + len(moment.future)], atol=1e-6)
    plan_figure(moment, "Hopper-v4", tmp_path / "plan.png")
    steps, heights = lines["what happened"]
    assert steps[:5].tolist() == [-3, -2, -1, 0, 1]
    np.testing.assert_allclose(heights[:4], moment.past[:, 0])
    expected_steps, expected = lines["expected under P"]
    assert expected_steps.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(expected[1:], details.probabilities[0] @ details.predicted_states[0, :, :, 0], rtol=1e-5)
    late = record_moment(agent, timestep=10_000, seed=3)
    assert 0 < late.timestep < 1000, "a shorter episode is shown halfway"
    with pytest.raises(UserError, match="considers no candidates"):
        record_moment(Agent.load(run.path, planner="none"))


def test_axis_labels_and_smoothing() -> None:
    assert [count(value) for value in (0, 500, 2500, 200_000, 1_500_000)] == ["0", "500", "2.5k", "200k", "1.5M"]
    np.testing.assert_allclose(smooth(np.full(20, 3.0), 5), 3.0)
    np.testing.assert_allclose(smooth(np.array([0.0, 3.0, 6.0]), 3), [1.5, 3.0, 4.5])
