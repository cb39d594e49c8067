"""The table that the demo ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

STAGES = {"none": "BTM alone", "return": "M³PC-M", "critic": "M³PC-Q"}


def demo_table(
    returns: npt.NDArray[np.float64],
    dataset_scores: npt.NDArray[np.float64],
    before: Sequence[Mapping[str, Any]],
    after: Mapping[str, Any],
    summary: Mapping[str, Any],
) -> Table:
    """Data, BTM, M³PC-M, M³PC-Q and finetuned, a row each: return and normalised score, mean and standard error.

    Args:
        returns, dataset_scores: (episodes,), of the data set.
        before: rows of `evaluate_planners` after pretraining.
        after: its row for the finetuned run.
        summary: summary.json of the finetuned run.
    """
    table = Table(title=f"{after['environment']}: {after['episodes']} episodes each, the same seeds")
    table.add_column("")
    table.add_column("normalised score", justify="right")
    table.add_column("return", justify="right")
    root = np.sqrt(len(returns))
    table.add_row(
        f"data ({len(returns)} episodes)",
        f"{dataset_scores.mean():.1f} ± {dataset_scores.std(ddof=1) / root:.1f}",
        f"{returns.mean():.0f} ± {returns.std(ddof=1) / root:.0f}",
    )
    rows = [(STAGES[row["planner"]], row) for row in before]
    rows.append((f"M³PC-Q after {summary['environment_steps']:,} online steps", after))
    for name, row in rows:
        table.add_row(
            name,
            f"{row['score_mean']:.1f} ± {row['score_sem']:.1f}",
            f"{row['return_mean']:.0f} ± {row['return_sem']:.0f}",
        )
    table.caption = f"± standard error over episodes; {summary['seconds']:.0f} s in all"
    return table
