"""The figure of a comparison, from the rows of its JSON alone: bars offline, learning curves online."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3pc_ray.report.style import figure
from m3pc_ray.report.sweep import QUALITATIVE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
SUM = "sum"


def comparison_figure(rows: Sequence[Row], settings: Mapping[str, Any], path: str | Path) -> Path:
    """Draws what is finished; a column a data set, offline above, online below where anything was trained online.

    Args:
        rows: of `comparison.results.summarise`.
        settings: of the comparison: evaluation (episodes, seed) and threads.
        path: of the PNG file.

    Raises UserError where it cannot be written.
    """
    rows = [row for row in rows if row["dataset"] != SUM]
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    names = list(dict.fromkeys(row["row"] for row in rows))
    colours = {name: QUALITATIVE[place % len(QUALITATIVE)] for place, name in enumerate(names)}
    online = any(row["point"] for row in rows)
    panels = 2 if online else 1
    bars = max((sum(row["dataset"] == dataset and not row["point"] for row in rows) for dataset in datasets), default=1)
    width = max(3.4, 1.0 + 0.42 * bars) * max(1, len(datasets)) + 0.6
    with figure(path, panels, max(1, len(datasets)), width=width, height=3.0 * panels + 0.7) as all_axes:
        for place, dataset in enumerate(datasets):
            here = [row for row in rows if row["dataset"] == dataset]
            _bars(all_axes[place], [row for row in here if not row["point"]], colours)
            all_axes[place].set_title(f"{dataset}\noffline" if online else dataset, loc="left", fontsize=9)
            if online:
                _curves(all_axes[len(datasets) + place], here, colours)
        for start in range(0, len(all_axes), max(1, len(datasets))):
            kinds = {row["kind"] for row in rows}
            named = {"score": "normalised score", "return": "return", "success": "share of episodes solved"}
            all_axes[start].set_ylabel(named[next(iter(kinds))] if len(kinds) == 1 else " or ".join(sorted(kinds)))
        drawn = {
            text: handle for axes in all_axes for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        whole = all_axes[0].figure
        if drawn:
            whole.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=4)
        evaluation = settings["evaluation"]
        whole.suptitle(
            f"bars and bands: 95 % intervals over seeds (episodes where there is one); {evaluation['episodes']} "
            "episodes each",
            x=0.01,
            ha="left",
            fontsize=8,
        )
    return Path(path)


def _bars(axes: Axes, rows: Sequence[Row], colours: Mapping[str, str]) -> None:
    if not rows:
        axes.text(0.5, 0.5, "nothing finished yet", transform=axes.transAxes, ha="center", color="#777777")
        return
    for place, row in enumerate(rows):
        errors = [[max(0.0, row["mean"] - row["low"])], [max(0.0, row["high"] - row["mean"])]]
        axes.bar(place, row["mean"], 0.75, yerr=errors, color=colours[row["row"]], error_kw={"elinewidth": 1.0})
        if len(row["values"]) > 1:
            axes.scatter([place] * len(row["values"]), row["values"], s=10, color="black", zorder=3, linewidths=0)
    axes.set_xticks(range(len(rows)), [row["label"] for row in rows], rotation=30, ha="right")
    axes.grid(visible=False, axis="x")


def _curves(axes: Axes, rows: Sequence[Row], colours: Mapping[str, str]) -> None:
    """A line a method that has a point online, from its offline score on where it has one."""
    for name in dict.fromkeys(row["row"] for row in rows if row["point"]):
        line = sorted((row for row in rows if row["row"] == name), key=lambda row: int(row["point"]))
        steps = [row["point"] for row in line]
        axes.plot(
            steps,
            [row["mean"] for row in line],
            marker="o",
            markersize=3.5,
            linewidth=1.3,
            color=colours[name],
            label=line[0]["label"],
        )
        axes.fill_between(
            steps,
            [row["low"] for row in line],
            [row["high"] for row in line],
            color=colours[name],
            alpha=0.15,
            linewidth=0,
        )
    axes.set_xlabel("environment steps")
    axes.set_title("online", loc="left", fontsize=9)
