"""PNG figures of a sweep: score against one setting, as a heat map of two, against each of several, over steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from matplotlib.transforms import ScaledTranslation

from m3pc_ray.report.figures import count
from m3pc_ray.report.style import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SYMBOLS = {
    "planner.td_lambda": "λ",
    "planner.num_candidates": "N",
    "planner.horizon": "h",
    "planner.utility_sharpness_return": "ξ",
    "planner.utility_sharpness_critic": "ξ",
}
"""The paper's letters for settings."""
COLOUR = "#4477aa"
BASELINE_COLOUR = "#555555"
QUALITATIVE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#009988")
"""Paul Tol's colours, told apart by colour-blind readers."""
CURVES_COLOURED = len(QUALITATIVE)
"""Settings with a colour of their own among learning curves; the rest are grey."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Result:
    """One setting at one report step."""

    values: tuple[Any, ...]
    """Of the varied settings, in their order; empty for a baseline."""
    mean: float | None
    """None where no trial has a score."""
    interval: Interval | None
    replicates: tuple[float, ...]


@dataclass(frozen=True)
class Step:
    """All settings at one report step."""

    label: str
    """Such as `500k steps`; empty for where the trials ended."""
    results: tuple[Result, ...]
    baseline: Result | None


@dataclass(frozen=True)
class Curve:
    """One setting over environment steps; entry i of all belongs together."""

    values: tuple[Any, ...]
    """Of the varied settings, in their order; empty for the baseline."""
    steps: tuple[float, ...]
    means: tuple[float, ...]
    intervals: tuple[Interval | None, ...]


@dataclass(frozen=True)
class Sweep:
    """What the figures say of a sweep."""

    title: str
    measure: str
    """Label of the axis, such as `mean normalised score`."""
    names: tuple[str, ...]
    """Dotted names of the varied settings."""
    scales: Mapping[str, str]
    """linear, log or category, by name."""
    steps: tuple[Step, ...]
    """At least one, each with a score of a setting."""
    baseline_label: str
    note: str
    """What intervals are over, and what faint points are."""


def axis_label(name: str) -> str:
    """Such as `λ (planner.td_lambda)`."""
    return f"{SYMBOLS[name]} ({name})" if name in SYMBOLS else name


def short_label(sweep: Sweep, values: tuple[Any, ...]) -> str:
    """A setting in a legend, such as `λ 0.6, horizon 4`; its value alone where nothing else varies."""
    if not values:
        return sweep.baseline_label
    if len(values) == 1:
        return _text(values[0])
    names = (SYMBOLS.get(name, name.rpartition(".")[2]) for name in sweep.names)
    return ", ".join(f"{name} {_text(value)}" for name, value in zip(names, values, strict=True))


def setting_figure(sweep: Sweep, path: BinaryIO) -> None:
    """Score against the one varied setting, a curve a report step, its baseline as a line with a band.

    Faint points are single replicates. Words and scale `category` stand side by side, without a line between them.
    """
    numeric = is_numeric(sweep, 0)
    places = _places(sweep, 0)
    wide = 6.4 if numeric else max(6.4, min(12.0, 1.6 + 0.9 * len(places)))
    legend = 2.2 if len(sweep.steps) > 1 else 0.0
    with figure(path, width=wide + legend, height=4.2) as (axes,):
        colours = _step_colours(len(sweep.steps))
        for index, (step, colour) in enumerate(zip(sweep.steps, colours, strict=True)):
            shift = 0.0 if numeric else 0.16 * (index - (len(sweep.steps) - 1) / 2)
            _draw_results(axes, step, colour, {value: at + shift for value, at in places.items()}, numeric)
            if len(sweep.steps) > 1:
                _draw_baseline(axes, step, f"{sweep.baseline_label}, {step.label}", colour)
            else:
                _draw_baseline(axes, step, sweep.baseline_label, BASELINE_COLOUR)
        _scale(axes, sweep, 0, places)
        axes.set_xlabel(axis_label(sweep.names[0]))
        axes.set_ylabel(sweep.measure)
        _title(axes, _heading(sweep), sweep.note)
        if len(sweep.steps) > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        elif axes.get_legend_handles_labels()[1]:
            axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.995))


def heat_map(sweep: Sweep, path: BinaryIO) -> None:
    """Scores of two varied settings as coloured cells with numbers, a panel a report step; hatched: no score."""
    rows, columns = (_distinct(sweep, place) for place in (1, 0))
    number = len(sweep.steps)
    width, height = number * max(3.2, 1.3 + 0.85 * len(columns)) + 0.9, max(2.8, 1.5 + 0.62 * len(rows))
    known = [each.mean for step in sweep.steps for each in step.results if each.mean is not None]
    bounds = Normalize(min(known), max(known)) if max(known) > min(known) else Normalize(known[0] - 1, known[0] + 1)
    with figure(path, columns=number, width=width, height=height) as panels:
        for axes, step in zip(panels, sweep.steps, strict=True):
            _draw_cells(axes, step, rows, columns, bounds)
            axes.set_xticks(range(len(columns)), [_text(value) for value in columns])
            axes.set_yticks(range(len(rows)), [_text(value) for value in rows])
            axes.set_xlabel(axis_label(sweep.names[0]))
            axes.set_ylabel(axis_label(sweep.names[1]))
            heading = [step.label] if number > 1 else []
            if step.baseline is not None and step.baseline.mean is not None:
                heading.append(f"{sweep.baseline_label}: {_number(step.baseline)}")
            axes.set_title(", ".join(heading), loc="left", fontsize=8)
        bar = panels[0].figure.colorbar(ScalarMappable(bounds, "viridis"), ax=panels, pad=0.02)
        bar.set_label(sweep.measure)
        panels[0].figure.suptitle(f"{_heading(sweep)}\n{sweep.note}", x=0.01, ha="left", fontsize=9)


def marginal_figure(sweep: Sweep, path: BinaryIO) -> None:
    """A panel a varied setting: every combination as a faint point, and the mean over them where values repeat.

    Of the last report step. Marginal means have no interval: the combinations are no sample.
    """
    step = sweep.steps[-1]
    columns = min(3, len(sweep.names))
    rows = math.ceil(len(sweep.names) / columns)
    with figure(path, rows, columns, width=0.6 + 3.6 * columns, height=0.6 + 3.0 * rows) as panels:
        for place, (axes, name) in enumerate(zip(panels, sweep.names, strict=False)):
            places = _places(sweep, place)
            scored = [(places[each.values[place]], each.mean) for each in step.results if each.mean is not None]
            at, score = np.array(scored).T
            axes.scatter(at, score, s=16, color=COLOUR, alpha=0.35, linewidths=0, label="a setting")
            repeated = [value for value in np.unique(at) if np.sum(at == value) > 1]
            means = [score[at == value].mean() for value in repeated]
            style = "-" if is_numeric(sweep, place) else ""
            if repeated:
                axes.plot(repeated, means, f"{style}o", color="#cc3311", markersize=5, label="mean over the others")
            _draw_baseline(axes, step, sweep.baseline_label, BASELINE_COLOUR)
            _scale(axes, sweep, place, places)
            axes.set_xlabel(axis_label(name))
            axes.set_ylabel(sweep.measure if place % columns == 0 else "")
        for axes in panels[len(sweep.names) :]:
            axes.set_axis_off()
        whole = panels[0].figure
        drawn = {
            label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        whole.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=len(drawn))
        heading = f"{sweep.title}, {step.label}" if step.label else sweep.title
        whole.suptitle(heading, x=0.01, ha="left", fontsize=10)


def curves_figure(sweep: Sweep, curves: Sequence[Curve], path: BinaryIO) -> None:
    """Score over environment steps with interval bands.

    Of many settings those that came farthest, and of these the highest, are coloured. A dot is a report.
    """
    settings = [curve for curve in curves if curve.values]
    highest = sorted(settings, key=lambda curve: (curve.steps[-1], curve.means[-1]))[-CURVES_COLOURED:]
    coloured = [curve for curve in settings if curve in highest]
    ordered_by_value = len(sweep.names) == 1 and is_numeric(sweep, 0)
    colours = _step_colours(len(coloured)) if ordered_by_value else list(QUALITATIVE[: len(coloured)])
    rest = [curve for curve in settings if curve not in highest]
    with figure(path, width=8.0, height=4.2) as (axes,):
        for index, curve in enumerate(rest):
            label = f"{len(rest)} other settings" if index == 0 else None
            axes.plot(curve.steps, curve.means, color="#bbbbbb", linewidth=0.9, zorder=1, label=label)
        for curve, colour in zip(coloured, colours, strict=True):
            _draw_curve(axes, curve, colour, "-", short_label(sweep, curve.values))
        for curve in curves:
            if not curve.values:
                _draw_curve(axes, curve, "black", "--", sweep.baseline_label)
        axes.xaxis.set_major_formatter(count)
        axes.set_xlabel("environment steps")
        axes.set_ylabel(sweep.measure)
        axes.margins(x=0.02)
        _title(axes, sweep.title, sweep.note)
        title = axis_label(sweep.names[0]) if len(sweep.names) == 1 else None
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), title=title, title_fontsize=8, alignment="left")


def is_numeric(sweep: Sweep, place: int) -> bool:
    """Whether a varied setting has an axis of numbers."""
    values = _distinct(sweep, place)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return numbers and sweep.scales.get(sweep.names[place]) != "category"


def _distinct(sweep: Sweep, place: int) -> list[Any]:
    """A setting's values, in the order of the results."""
    values = dict.fromkeys(result.values[place] for step in sweep.steps for result in step.results)
    found = list(values)
    if all(isinstance(value, int | float) for value in found):
        found.sort()
    return found


def _places(sweep: Sweep, place: int) -> dict[Any, float]:
    """Where on the axis a setting's values stand."""
    values = _distinct(sweep, place)
    return {value: float(value) if is_numeric(sweep, place) else float(at) for at, value in enumerate(values)}


def _scale(axes: Axes, sweep: Sweep, place: int, places: Mapping[Any, float]) -> None:
    values = list(places.values())
    if not is_numeric(sweep, place):
        labels = [_text(value) for value in places]
        crowded = sum(map(len, labels)) > 40 or max(map(len, labels)) > 14
        axes.set_xticks(values, labels, rotation=30 if crowded else 0, ha="right" if crowded else "center")
        axes.set_xlim(-0.6, len(values) - 0.4)
        axes.grid(visible=False, axis="x")
        return
    logarithmic = sweep.scales.get(sweep.names[place]) == "log" and len(values) > 1
    if logarithmic and min(values) > 0:
        axes.set_xscale("log")
    elif logarithmic:
        axes.set_xscale("symlog", linthresh=min((abs(value) for value in values if value), default=1.0))
    if len(values) <= 10:
        axes.set_xticks(values, [_text(value) for value in places], minor=False)
        axes.set_xticks([], minor=True)


def _draw_results(axes: Axes, step: Step, colour: Any, places: Mapping[Any, float], joined: bool) -> None:
    scored = [result for result in step.results if result.mean is not None]
    if not scored:
        return
    # A little to the right, on any scale of the axis: on the bar nobody would see them.
    beside = axes.transData + ScaledTranslation(5 / 72, 0, axes.figure.dpi_scale_trans)
    for result in scored:
        if len(result.replicates) > 1:
            at = [places[result.values[0]]] * len(result.replicates)
            axes.scatter(at, result.replicates, s=12, color=colour, alpha=0.45, linewidths=0, transform=beside)
    x = np.array([places[result.values[0]] for result in scored])
    means = np.array([result.mean for result in scored], dtype=np.float64)
    axes.plot(x, means, "-o" if joined else "o", color=colour, markersize=5, linewidth=1.3, label=step.label or None)
    bars = [(places[each.values[0]], *each.interval) for each in scored if each.interval is not None]
    if bars:
        at, low, high = np.array(bars).T
        axes.vlines(at, low, high, color=colour, linewidth=1.6)
        if joined and len(bars) == len(scored) > 1:
            axes.fill_between(at, low, high, color=colour, alpha=0.13, linewidth=0)


def _draw_baseline(axes: Axes, step: Step, label: str, colour: Any) -> None:
    baseline = step.baseline
    if baseline is None or baseline.mean is None:
        return
    axes.axhline(baseline.mean, color=colour, linestyle="--", linewidth=1.2, label=label, zorder=1)
    if baseline.interval is not None:
        axes.axhspan(*baseline.interval, color=colour, alpha=0.1, linewidth=0, zorder=0)


def _draw_cells(axes: Axes, step: Step, rows: list[Any], columns: list[Any], bounds: Normalize) -> None:
    cells = {(result.values[1], result.values[0]): result for result in step.results if result.mean is not None}
    means = np.full((len(rows), len(columns)), np.nan)
    for (row, column), result in cells.items():
        means[rows.index(row), columns.index(column)] = result.mean
    axes.imshow(means, norm=bounds, cmap="viridis", aspect="auto", origin="lower")
    axes.grid(visible=False)
    best = max(cells.values(), key=lambda result: result.mean or 0.0, default=None)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            found = cells.get((row, column))
            if found is None:
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="////", edgecolor="#cccccc"))
                axes.text(x, y, "no score", ha="center", va="center", fontsize=7, backgroundcolor="white")
                continue
            light = bounds(means[y, x]) > 0.6
            weight = "bold" if found is best else "normal"
            text = _number(found, "\n")
            axes.text(
                x, y, text, ha="center", va="center", fontsize=7, color="black" if light else "white", weight=weight
            )


def _draw_curve(axes: Axes, curve: Curve, colour: Any, line: str, label: str) -> None:
    axes.plot(
        curve.steps,
        curve.means,
        line,
        marker="o",
        markersize=3,
        color=colour,
        linewidth=1.5,
        label=label,
        zorder=3,
    )
    known = [interval for interval in curve.intervals if interval is not None]
    if len(known) == len(curve.steps):
        low, high = np.array(known).T
        axes.fill_between(curve.steps, low, high, color=colour, alpha=0.13, linewidth=0, zorder=2)


def _step_colours(number: int) -> list[Any]:
    """From light to dark with more steps; one step has the plain colour."""
    return [COLOUR] if number == 1 else [colormaps["viridis"](at) for at in np.linspace(0.85, 0.1, number)]


def _heading(sweep: Sweep) -> str:
    only = sweep.steps[0].label if len(sweep.steps) == 1 else ""
    return f"{sweep.title}, {only}" if only else sweep.title


def _title(axes: Axes, title: str, note: str) -> None:
    axes.set_title(f"{title}\n", loc="left", fontsize=10)
    axes.text(0.0, 1.015, note, transform=axes.transAxes, fontsize=7.5, color="#555555")


def _number(result: Result, between: str = " ") -> str:
    interval = "" if result.interval is None else f"{between}[{result.interval[0]:.1f}, {result.interval[1]:.1f}]"
    return f"{result.mean:.1f}{interval}"


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.3g}" if isinstance(value, float) else str(value)
