"""Figures that others have published, beside ours: they are on D4RL's own data, ours on whatever --data names."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
PATH = Path(__file__).resolve().parents[1] / "data" / "quoted_scores.json"
"""Every figure with its source; the file says what was left out because it could not be checked."""
NOTE = (
    "Quoted figures are their authors', on D4RL's own data and with their own budgets: they say where the field "
    "stands, not which method is better here."
)


@functools.cache
def quoted_scores() -> dict[str, Any]:
    """What the file holds: `entries` (label, environment_steps, scores by task, mean or sum of six, source)."""
    values: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return values


def task_of(dataset: str) -> str | None:
    """The D4RL task that a data set's name begins with, such as `hopper-medium`; None where it is none of them."""
    tasks = sorted({task for entry in quoted_scores()["entries"] for task in entry["scores"]}, key=len, reverse=True)
    return next((task for task in tasks if dataset == task or dataset.startswith(f"{task}-")), None)


def quoted_rows(datasets: Sequence[str]) -> list[Row]:
    """An entry each that says something of these data sets' tasks: label, environment_steps, source, sum_of_six, and
    scores by task, None where it gives none.

    Entries that give but a sum or a mean over the six data sets are there where any of the six is.
    """
    tasks = list(dict.fromkeys(task for dataset in datasets if (task := task_of(dataset)) is not None))
    rows = []
    for entry in quoted_scores()["entries"] if tasks else ():
        scores = {task: entry["scores"].get(task) for task in tasks}
        if entry["scores"] and not any(score is not None for score in scores.values()):
            continue
        six, source = entry.get("sum_of_six"), entry["source"]
        if six is None:
            six, source = 6.0 * entry["mean_of_six"], f"{source}; sum: six times that"
        row = {"label": entry["label"], "environment_steps": entry["environment_steps"], "scores": scores}
        rows.append({**row, "sum_of_six": six, "source": source})
    return rows
