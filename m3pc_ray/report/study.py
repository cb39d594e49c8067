"""The figure of a study, from the rows of its JSON alone: bars of variants, or lines over their numbers.

A row of panels a kind of measure, a column a data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3pc_ray.report.style import COLOURS, LABELS, figure
from m3pc_ray.report.sweep import QUALITATIVE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
PLANNERS = {"none": "none", "return": "return", "critic": "critic", "mlp_bc": "bc"}
"""Last part of a measure and what `report.style` calls it."""
NAMES = {"score": "normalised score", "return": "return", "training": "training"}


def study_figure(rows: Sequence[Row], study: Mapping[str, Any], path: str | Path) -> Path:
    """Draws what is measured so far.

    Args:
        rows: dataset, variant, label, x, line, measure, mean and error of every cell of the table.
        study: title, figure (the measures to draw), titles (of measures), x_label, seeds, episodes.
        path: of the PNG file.

    Raises UserError where it cannot be written.
    """
    drawn = [row for row in rows if row["measure"] in study["figure"]]
    datasets = list(dict.fromkeys(row["dataset"] for row in drawn))
    over_x = any(row["x"] is not None for row in drawn)
    several_lines = over_x and any(row["line"] for row in drawn)
    panels = _panels_of_measures(study) if several_lines else _panels_of_kinds(study)
    variants = len({row["variant"] for row in drawn})
    wide = 3.6 if over_x else max(3.2, 1.4 + 0.75 * variants)
    with figure(
        path, len(panels), len(datasets), width=wide * len(datasets) + 1.0, height=2.9 * len(panels) + 0.7
    ) as all_axes:
        for index, axes in enumerate(all_axes):
            (name, measures), dataset = list(panels.items())[index // len(datasets)], datasets[index % len(datasets)]
            chosen = [row for row in drawn if row["dataset"] == dataset and row["measure"] in measures]
            if several_lines:
                lines = list(dict.fromkeys(row["line"] for row in chosen if row["line"]))
                # What has a number but no line, such as the whole data, is the end of every line.
                _draw_lines(axes, {line: [row for row in chosen if row["line"] in (line, "")] for line in lines}, study)
            elif over_x:
                _draw_lines(axes, {each: [row for row in chosen if row["measure"] == each] for each in measures}, study)
            else:
                _draw_bars(axes, chosen, measures, study)
            axes.set_title(dataset, loc="left")
            if not any(row["mean"] is not None for row in chosen):
                axes.text(0.5, 0.5, "not measured yet", transform=axes.transAxes, ha="center", color="#777777")
                axes.set_yticks([])
            if index % len(datasets) == 0:
                axes.set_ylabel(name)
        _legend(all_axes)
        whole = all_axes[0].figure
        over = "seeds" if len(study["seeds"]) > 1 else "episodes"
        note = f"error bars: standard error over {over}; {study['episodes']} episodes a planner and seed"
        whole.suptitle(f"{study['title']}\n{note}", x=0.01, ha="left", fontsize=9)
    return Path(path)


def _look(name: str, place: int, study: Mapping[str, Any]) -> tuple[str, str]:
    """Colour and label of a measure, or of a line of the study's."""
    kind, _, last = name.rpartition("/")
    if kind in ("score", "return"):
        return COLOURS[PLANNERS[last]], LABELS[PLANNERS[last]]
    return QUALITATIVE[place % len(QUALITATIVE)], study["titles"].get(name, name)


def _panels_of_kinds(study: Mapping[str, Any]) -> dict[str, list[str]]:
    """Label of the axis -> measures that share a row of panels."""
    panels: dict[str, list[str]] = {}
    for measure in study["figure"]:
        kind = measure.partition("/")[0]
        panels.setdefault(NAMES.get(kind, kind.replace("_", " ")), []).append(measure)
    return panels


def _panels_of_measures(study: Mapping[str, Any]) -> dict[str, list[str]]:
    return {study["titles"][measure]: [measure] for measure in study["figure"]}


def _draw_bars(axes: Axes, rows: Sequence[Row], measures: Sequence[str], study: Mapping[str, Any]) -> None:
    labels = list(dict.fromkeys(row["label"] for row in rows))
    width = 0.8 / len(measures)
    for place, measure in enumerate(measures):
        colour, label = _look(measure, place, study)
        known = [row for row in rows if row["measure"] == measure and row["mean"] is not None]
        if not known:
            continue
        at = [labels.index(row["label"]) + (place - (len(measures) - 1) / 2) * width for row in known]
        means, errors = [row["mean"] for row in known], [row["error"] or 0.0 for row in known]
        axes.bar(at, means, 0.92 * width, yerr=errors, color=colour, label=label, error_kw={"elinewidth": 1.0})
        if len(study["seeds"]) > 1:
            for x, row in zip(at, known, strict=True):
                axes.scatter([x] * len(row["values"]), row["values"], s=10, color="black", zorder=3, linewidths=0)
    crowded = max(map(len, labels), default=0) > 8
    axes.set_xticks(range(len(labels)), labels, rotation=25 if crowded else 0, ha="right" if crowded else "center")
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.grid(visible=False, axis="x")


def _draw_lines(axes: Axes, lines: Mapping[str, Sequence[Row]], study: Mapping[str, Any]) -> None:
    """A line a key: a measure, or a name that the study gives to variants that belong together."""
    places = sorted({row["x"] for rows in lines.values() for row in rows if row["x"] is not None})
    for index, (line, rows) in enumerate(lines.items()):
        known = sorted(
            (row for row in rows if row["x"] is not None and row["mean"] is not None), key=lambda row: float(row["x"])
        )
        if not known:
            continue
        colour, label = _look(line, index, study)
        axes.errorbar(
            [row["x"] for row in known],
            [row["mean"] for row in known],
            yerr=[row["error"] or 0.0 for row in known],
            marker="o",
            markersize=4,
            linewidth=1.3,
            color=colour,
            label=label,
        )
    if places and places[0] > 0:
        axes.set_xscale("log")
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(study["x_label"])


def _legend(panels: Sequence[Axes]) -> None:
    """One legend for all panels, below them."""
    drawn = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if len(drawn) > 1:
        panels[0].figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=min(5, len(drawn)))
