"""PNG figure of how an online run on Ray went: memory of every role, speed, and who waited for whom."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from m3pc_ray.errors import UserError
from m3pc_ray.report.metrics import FloatArray, Metrics, read_metrics, smooth
from m3pc_ray.report.style import figure
from m3pc_ray.training.run_folder import RunFolder

SMOOTHED_ROWS = 7
"""Rows of the stream `online`, five seconds apart, that speed is averaged over."""

_MEMORY = re.compile(r"memory_(\w+)_mb")
_STREAM = "online"


def operation_figure(run: RunFolder, path: str | Path) -> Path:
    """Over the minutes of a run: resident memory by kind of role, environment steps a second, shares of waiting.

    Raises UserError where the run has no such rows, as one in a single process.
    """
    metrics = read_metrics(run)
    kinds = [match[1] for name in metrics.names(_STREAM) if (match := _MEMORY.fullmatch(name))]
    if not kinds:
        raise UserError(f"{run.metrics_path}: no memory of roles in the stream {_STREAM}; runs on Ray write it")
    with figure(path, columns=3, width=11.0, height=3.2) as (memory, speed, waiting):
        for kind in kinds:
            minutes, values = over_minutes(metrics, f"memory_{kind}_mb")
            memory.plot(minutes, values, label=kind.replace("_", " "))
        memory.set_ylabel("resident memory (MiB)")
        minutes, values = over_minutes(metrics, "steps_per_second")
        speed.plot(minutes, smooth(values, SMOOTHED_ROWS), color="#4477aa", label="steps a second")
        speed.set_ylabel("environment steps a second")
        for name, label in (("waiting_steps", "rollouts"), ("waiting_updates", "learner"), ("planner_busy", "")):
            minutes, values = over_minutes(metrics, name)
            waiting.plot(minutes, values, label=f"{label} wait" if label else "planner computes")
        waiting.set_ylabel("share of time")
        for axes in (memory, speed, waiting):
            axes.set_xlabel("minutes")
            axes.set_ylim(bottom=0)
        memory.legend()
        waiting.legend()
    return Path(path)


def over_minutes(metrics: Metrics, name: str) -> tuple[FloatArray, FloatArray]:
    """Minutes of the run's wall time and values (n,) of a metric of the stream `online`."""
    rows = [row for row in metrics.rows if row["stream"] == _STREAM and row.get(name) is not None]
    rows = [row for row in rows if row.get("seconds") is not None]
    pairs = np.asarray([(row["seconds"] / 60.0, row[name]) for row in rows], dtype=np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
