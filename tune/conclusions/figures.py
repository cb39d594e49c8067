"""Which figures a sweep's conclusions get, and what they show."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import BinaryIO

from m3pc_ray.report.figures import count
from m3pc_ray.report.sweep import Curve, Result, Step, Sweep, curves_figure, heat_map, marginal_figure, setting_figure
from tune.conclusions.learning_curves import learning_curves
from tune.conclusions.ranking import Conclusion, Row
from tune.conclusions.reports import Results
from tune.conclusions.stratified import Estimate, Statistic
from tune.conclusions.tables import STATISTIC_NAMES, UNITS

FULL_ENOUGH = 0.5
"""Share of a heat map's cells that must be known; a random search's are not, and get a panel a setting."""


def draw(results: Results, conclusions: Sequence[Conclusion], statistic: Statistic) -> dict[str, bytes]:
    """PNG files by name: figures/settings.png, and figures/learning_curves.png where trials report while they run."""
    sweep = _sweep(results, conclusions, statistic)
    drawn = {"figures/settings.png": _png(lambda file: _settings(sweep)(sweep, file))}
    found = learning_curves(results, statistic)
    curves = [
        Curve(
            values=curve.setting.values,
            steps=tuple(float(step) for step in curve.steps),
            means=tuple(each.value for each in curve.estimates),
            intervals=tuple(each.interval for each in curve.estimates),
        )
        for curve in found
    ]
    if curves:
        note = _note([(each, curve.replicates) for curve in found for each in curve.estimates])
        sweep = dataclasses.replace(sweep, note=note)
        drawn["figures/learning_curves.png"] = _png(lambda file: curves_figure(sweep, curves, file))
    return drawn


def _settings(sweep: Sweep) -> Callable[[Sweep, BinaryIO], None]:
    if len(sweep.names) == 1:
        return setting_figure
    if len(sweep.names) == 2:
        results = sweep.steps[0].results
        across, down = (len({result.values[place] for result in results}) for place in (0, 1))
        if across > 1 and down > 1 and len(results) >= FULL_ENOUGH * across * down:
            return heat_map
    return marginal_figure


def _sweep(results: Results, conclusions: Sequence[Conclusion], statistic: Statistic) -> Sweep:
    description = results.description
    steps = []
    for conclusion in conclusions:
        label = "" if conclusion.step is None else f"{count(conclusion.step)} steps"
        baseline = _result(conclusion.baseline) if conclusion.baseline is not None else None
        steps.append(Step(label, tuple(_result(row) for row in conclusion.settings), baseline))
    rows = [row for conclusion in conclusions for row in conclusion.rows]
    note = _note([(row.estimate, len(row.replicates)) for row in rows if row.estimate is not None])
    if len(description.varied) == 1 and any(len(row.replicates) > 1 for row in rows):
        note += "; faint points: single seeds"
    return Sweep(
        title=description.name,
        measure=f"{STATISTIC_NAMES[statistic]} {UNITS[results.measure]}",
        names=description.varied,
        scales=description.scales,
        steps=tuple(steps),
        baseline_label=description.baseline_label,
        note=note,
    )


def _note(estimates: Sequence[tuple[Estimate, int]]) -> str:
    """What the intervals are over; `estimates` with their numbers of replicates."""
    numbers = sorted({replicates for each, replicates in estimates if each.over == "seeds"})
    over = []
    if numbers:
        over.append(f"{numbers[0]} seeds" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} seeds")
    fixed = {replicates for each, replicates in estimates if each.over == "episodes"}
    if fixed:
        over.append("episodes of one seed" if fixed == {1} else "episodes where a task has one seed")
    return (
        f"95 % bootstrap intervals over {' or over '.join(over)}" if over else "no intervals: one episode of one seed"
    )


def _result(row: Row) -> Result:
    estimate = row.estimate
    replicates = tuple(replicate.value for replicate in row.replicates)
    if estimate is None:
        return Result(row.setting.values, None, None, replicates)
    return Result(row.setting.values, estimate.value, estimate.interval, replicates)


def _png(drawing: Callable[[BinaryIO], None]) -> bytes:
    file = io.BytesIO()
    drawing(file)
    return file.getvalue()
