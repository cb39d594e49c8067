"""What runs score: the evaluations of every planner, over environment steps and at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from m3pc_ray.evaluation.statistics import bootstrap_interval
from m3pc_ray.report.page.runs import Group, ReportedRun
from m3pc_ray.report.page.seeds import FEW_SEEDS, Curve, combine

Measure = Literal["score", "return"]
PLANNERS = ("none", "return", "critic")
"""In the order of the page."""


@dataclass(frozen=True)
class Earned:
    """A mean and its 95 % interval; `low` and `high` are None where nothing can be resampled."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Result:
    """One planner of one group of runs at their last evaluations."""

    planner: str
    score: Earned | None
    """Normalised; None without reference scores."""
    returns: Earned
    start: Earned | None
    """The first evaluation in the measure of the page, before any finetuning; None where there is none at step 0."""
    runs: int
    """Runs with an evaluation of this planner."""
    episodes: tuple[int, ...]
    """Of each run's evaluation, without repetition."""
    steps: tuple[int, ...]
    """Environment steps of the evaluations, without repetition."""
    settings: str
    """Of the planner, such as `N 64, h 4, λ 0.6`; empty for a single mask."""

    @property
    def over(self) -> str:
        """What the intervals are over, and whether they are to be trusted."""
        episodes = " or ".join(f"{number:,}" for number in self.episodes)
        if self.runs == 1:
            return f"{episodes} episodes of one seed" if self.episodes != (1,) else "one episode of one seed"
        few = ", too few for a sure interval" if self.runs < FEW_SEEDS else ""
        return f"{self.runs} seeds of {episodes} episodes each{few}"


def planners_of(groups: Sequence[Group]) -> list[str]:
    """Planners that were evaluated, in the page's order."""
    found = {name.split("/")[0] for group in groups for run in group.runs for row in evaluations(run) for name in row}
    return [planner for planner in PLANNERS if planner in found]


def measure_of(groups: Sequence[Group]) -> Measure:
    """Normalised score; the return for all where a score is missing somewhere."""
    rows = [row for group in groups for run in group.runs for row in evaluations(run)]
    means = [name for row in rows for name in row if name.endswith("/return_mean")]
    scores = [name for row in rows for name in row if name.endswith("/score_mean") and row[name] is not None]
    return "score" if len(scores) == len(means) else "return"


def evaluations(run: ReportedRun) -> list[dict[str, Any]]:
    """Rows in the form of the stream `evaluation`, oldest first; one of evaluation.json where the stream has none."""
    rows = [row for row in run.metrics.rows if row["stream"] == "evaluation"]
    if not rows and run.played:
        joined: dict[str, Any] = {"step": 0}
        for row in run.played:
            joined |= {f"{row['planner']}/{name}": value for name, value in row.items()}
        rows = [joined]
    return sorted(rows, key=lambda row: row["step"])


def results(group: Group, measure: Measure) -> list[Result]:
    """A result for every planner that the group's runs have evaluated."""
    found = []
    for planner in planners_of([group]):
        rows = [_with(evaluations(run), planner) for run in group.runs]
        rows = [own for own in rows if own]
        last = [own[-1] for own in rows]
        first = [own[0] for own in rows if own[0]["step"] == 0 and len(own) > 1]
        scored = all(row.get(f"{planner}/score_mean") is not None for row in last)
        found.append(
            Result(
                planner=planner,
                score=_earned(last, planner, "score") if scored else None,
                returns=_earned(last, planner, "return"),
                start=_earned(first, planner, measure) if len(first) == len(rows) else None,
                runs=len(rows),
                episodes=tuple(sorted({int(row[f"{planner}/episodes"]) for row in last})),
                steps=tuple(sorted({int(row["step"]) for row in last})),
                settings=_settings(last[0], planner),
            )
        )
    return found


def learning_curve(group: Group, planner: str, measure: Measure) -> Curve | None:
    """Mean over seeds with its 95 % interval, which is over episodes where there is one seed; None without values."""
    series = [run.metrics.series("evaluation", f"{planner}/{measure}_mean") for run in group.runs]
    series = [(steps, values) for steps, values in series if len(steps)]
    if not series:
        return None
    if len(series) > 1:
        return combine(series, band="interval")
    (run,) = (run for run in group.runs if len(run.metrics.series("evaluation", f"{planner}/{measure}_mean")[0]))
    ends = [run.metrics.series("evaluation", f"{planner}/{measure}_{end}")[1] for end in ("low", "high")]
    steps, values = series[0]
    low, high = (end if len(end) == len(values) else None for end in ends)
    return Curve(steps, values, low, high, ()) if low is not None and high is not None else combine(series)


def _settings(row: dict[str, Any], planner: str) -> str:
    named = (("N", "num_candidates"), ("h", "horizon"), ("λ", "td_lambda"))
    return ", ".join(f"{letter} {row[key]:g}" for letter, name in named if (key := f"{planner}/{name}") in row)


def _with(rows: Sequence[dict[str, Any]], planner: str) -> list[dict[str, Any]]:
    return [row for row in rows if row.get(f"{planner}/return_mean") is not None]


def _earned(rows: Sequence[dict[str, Any]], planner: str, measure: Measure) -> Earned:
    means = [float(row[f"{planner}/{measure}_mean"]) for row in rows]
    if len(means) > 1:
        return Earned(float(np.mean(means)), *bootstrap_interval(means))
    low, high = (rows[0].get(f"{planner}/{measure}_{end}") for end in ("low", "high"))
    if rows[0][f"{planner}/episodes"] < 2:
        low = high = None
    return Earned(means[0], low, high)
