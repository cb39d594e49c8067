"""The figure of how a run on Ray went draws what the metrics say, against the run's own time."""

from pathlib import Path

import numpy as np
import pytest

from m3pc_ray.config import LoggingConfig
from m3pc_ray.errors import UserError
from m3pc_ray.report.metrics import read_metrics
from m3pc_ray.report.operation import operation_figure, over_minutes
from m3pc_ray.training.metrics import MetricLogger
from m3pc_ray.training.run_folder import RunFolder
from tests.tiny_run import make_tiny_run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_tiny_run(tmp_path / "run")


def test_values_stand_over_the_minutes_of_the_run(run: RunFolder, tmp_path: Path) -> None:
    logger = MetricLogger(run, LoggingConfig(tensorboard=False), "online")
    logger.log(10, {"seconds": 30.0, "steps_per_second": 4.0})  # before any account of memory
    logger.log(20, {"seconds": 60.0, "steps_per_second": 5.0, "memory_learner_mb": 700.0, "waiting_steps": 0.5})
    logger.log(20, {"seconds": 90.0, "steps_per_second": 0.0, "memory_learner_mb": 710.0, "planner_busy": 0.25})
    metrics = read_metrics(run)
    minutes, memory = over_minutes(metrics, "memory_learner_mb")
    np.testing.assert_array_equal(minutes, [1.0, 1.5])
    np.testing.assert_array_equal(memory, [700.0, 710.0])
    assert len(over_minutes(metrics, "steps_per_second")[0]) == 3
    path = operation_figure(run, tmp_path / "operation.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_run_in_one_process_has_none(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no memory of roles"):
        operation_figure(run, tmp_path / "operation.png")
