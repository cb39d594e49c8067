"""PNG figures of the roles of one model, from the rows that `m3pc capabilities` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from m3pc_ray.report.style import COLOURS, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]

MODEL, MLP, PLAIN = COLOURS["none"], COLOURS["goal_mask"], COLOURS["dataset"]
BLIND = "#99bbdd"
"""The model with less to see: its own colour, paler."""


def draw_capabilities(rows: Sequence[Row], folder: str | Path, run: str) -> list[Path]:
    """All figures, written into `folder`: dynamics.png, returns.png, calibration.png, summary.png.

    Args:
        rows: of `m3pc capabilities`, as they stand in its rows.json.
        run: name of the run, for the titles.

    Raises:
        UserError: a figure cannot be written.
    """
    draws = {"dynamics": _draw_dynamics, "returns": _draw_sweep, "calibration": _draw_calibration}
    paths = []
    for name, draw in draws.items():
        path = Path(folder) / f"{name}.png"
        wide = name != "returns"
        with figure(path, 1, 2 if wide else 1, width=8.2 if wide else 5.0, height=3.7 if wide else 4.4) as panels:
            draw(panels, rows, run)
        paths.append(path)
    path = Path(folder) / "summary.png"
    with figure(path, width=7.4, height=4.6) as panels:
        _draw_summary(panels[0], rows, run)
    return [*paths, path]


def _of(rows: Sequence[Row], capability: str) -> list[Row]:
    return [row for row in rows if row["capability"] == capability]


def _draw_dynamics(panels: list[Axes], rows: Sequence[Row], run: str) -> None:
    """Error over steps ahead: from the first step of the window, and with the past in sight."""
    found = _of(rows, "forward_dynamics")
    alone, past = panels
    _curve(alone, found, "no_change_error", PLAIN, ":", "s")
    _curve(alone, found, "error_without_later_actions", BLIND, "-", "v")
    _curve(alone, found, "error", MODEL, "-", "o")
    _curve(alone, found, "mlp_error", MLP, "--", "D")
    alone.set_title(f"{run}: from one state and the actions", loc="left")
    later = [row for row in found if row["error_with_history"] is not None]
    _curve(past, later, "error_with_history_without_later_actions", BLIND, "-", "v")
    _curve(past, later, "error_with_history", MODEL, "-", "o")
    _curve(past, later, "error", MODEL, ":", ".")
    _curve(past, later, "mlp_error", MLP, "--", "D")
    past.set_title(f"with {found[0]['context_length']} past steps in sight", loc="left")
    for axes in panels:
        axes.set_yscale("log")
        axes.set_xlabel("steps ahead")
        axes.xaxis.set_major_locator(FixedLocator([row["steps_ahead"] for row in found]))
        axes.set_xlim(0.7, len(found) + 0.3)
        axes.grid(which="minor", axis="y", alpha=0.12)
        axes.yaxis.set_minor_formatter(NullFormatter())
    low, high = (pick(axes.get_ylim()[side] for axes in panels) for side, pick in ((0, min), (1, max)))
    for axes in panels:
        axes.set_ylim(low, high)
    past.tick_params(labelleft=False)
    alone.set_ylabel("squared error, units of the data's variance")
    handles = [
        Line2D([], [], color=PLAIN, linestyle=":", marker="s", markersize=4, label="no change"),
        Line2D([], [], color=MODEL, marker="o", markersize=4, label="model, all actions of the window"),
        Line2D([], [], color=BLIND, marker="v", markersize=4, label="model, later actions hidden"),
        Line2D([], [], color=MODEL, linestyle=":", marker=".", markersize=4, label="model without the past"),
        Line2D([], [], color=MLP, linestyle="--", marker="D", markersize=4, label="MLP, rolled out, sees no past"),
    ]
    past.legend(handles=handles, loc="upper right")
    note = f"MLP: {found[0]['mlp_steps']:,} gradient steps, {found[0]['mlp_budget_fraction']:.0%} of the model's. "
    note += "Bands: standard error over held-out episodes."
    root = alone.get_figure(root=True)
    assert root is not None
    root.supxlabel(note, fontsize=7, color="#555555", x=0.99, ha="right")


def _curve(axes: Axes, rows: Sequence[Row], name: str, colour: str, style: str, marker: str) -> None:
    """One kind of error over steps ahead, with its standard error as a band."""
    ahead = [row["steps_ahead"] for row in rows]
    values = np.array([row[name] for row in rows])
    errors = np.array([row.get(f"{name}_sem") or 0.0 for row in rows])
    axes.plot(ahead, values, style, color=colour, marker=marker, markersize=4, linewidth=1.5)
    lowest = np.maximum(values - errors, 0.2 * values)  # a band that reaches 0 has no place on this scale
    axes.fill_between(ahead, lowest, values + errors, color=colour, alpha=0.15, lw=0)


def _draw_sweep(panels: list[Axes], rows: Sequence[Row], run: str) -> None:
    """Achieved over asked return, the identity, and where the data's returns lie."""
    axes = panels[0]
    points, (summary,) = _of(rows, "return_conditioned_sweep"), _of(rows, "return_conditioned_sweep_summary")
    asked = np.array([row["asked_return"] for row in points])
    low, best, mean = (summary[f"data_return_{name}"] for name in ("min", "max", "mean"))
    axes.axvspan(low, best, color=PLAIN, alpha=0.12, lw=0)
    axes.axvline(mean, color=PLAIN, linewidth=1.0, linestyle=":")
    span = float(asked[-1] - asked[0])
    limits = asked[0] - 0.05 * span, asked[-1] + 0.05 * span
    axes.plot(limits, limits, color="black", linewidth=1.0, linestyle=(0, (4, 3)))
    for row in points:
        axes.plot(
            [row["asked_return"]] * len(row["achieved_returns"]),
            row["achieved_returns"],
            "o",
            color=MODEL,
            alpha=0.35,
            markersize=3.5,
            markeredgewidth=0,
        )
    axes.plot(asked, [row["achieved_return"] for row in points], "-o", color=MODEL, markersize=5, linewidth=1.6)
    axes.set_xlim(limits)
    axes.set_xlabel("return asked for")
    axes.set_ylabel("return achieved")
    correlation = summary["rank_correlation"]
    said = "" if correlation is None else f", rank correlation {correlation:.2f}"
    axes.set_title(f"{run}: asked and achieved{said}", loc="left")
    handles = [
        Line2D([], [], color=MODEL, marker="o", markersize=5, label=f"mean of {summary['episodes']} episodes"),
        Line2D([], [], color=MODEL, marker="o", markersize=3.5, alpha=0.35, linestyle="", label="an episode"),
        Line2D([], [], color="black", linestyle=(0, (4, 3)), linewidth=1.0, label="as asked"),
        Line2D([], [], color=PLAIN, alpha=0.3, linewidth=7, label="returns in the data"),
        Line2D([], [], color=PLAIN, linestyle=":", linewidth=1.0, label="their mean"),
    ]
    axes.legend(handles=handles, loc="best")


def _draw_calibration(panels: list[Axes], rows: Sequence[Row], run: str) -> None:
    """Covered over nominal, all dimensions and each; and the histogram of probability integral transforms."""
    points, (summary,) = _of(rows, "calibration"), _of(rows, "calibration_summary")
    nominal = np.array([row["nominal"] for row in points])
    each = np.array([row["covered_per_dimension"] for row in points])  # (levels, action_dim)
    left, right = panels
    left.plot([0, 1], [0, 1], color="black", linewidth=1.0, linestyle=(0, (4, 3)), label="calibrated")
    for index in range(each.shape[1]):
        left.plot(nominal, each[:, index], color=BLIND, linewidth=1.0, label=None if index else "one action dimension")
    mean = np.array([row["covered"] for row in points])
    left.plot(nominal, mean, "-o", color=MODEL, markersize=4, linewidth=1.6, label="all dimensions")
    left.set_xlim(0, 1)
    left.set_ylim(0, 1)
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    left.set_xlabel("central interval of the model")
    left.set_ylabel("logged actions inside it")
    left.set_title(f"{run}: coverage", loc="left")
    left.text(0.04, 0.93, "too wide", transform=left.transAxes, va="top", color="#777777", fontsize=8)
    left.text(0.96, 0.03, "too narrow", transform=left.transAxes, ha="right", color="#777777", fontsize=8)
    left.legend(loc="center right", bbox_to_anchor=(1.0, 0.24))
    histogram = np.array(summary["pit_histogram"])
    bins = len(histogram)
    right.bar((np.arange(bins) + 0.5) / bins, histogram * bins, width=0.92 / bins, color=MODEL)
    right.axhline(1.0, color="black", linewidth=1.0, linestyle=(0, (4, 3)))
    right.set_xlim(0, 1)
    right.xaxis.set_major_formatter(PercentFormatter(1.0))
    right.set_xlabel("model's probability of less than the logged action")
    right.set_ylabel("density")
    right.set_title(f"negative log-likelihood {summary['negative_log_likelihood']:.2f} nats", loc="left")


def _draw_summary(axes: Axes, rows: Sequence[Row], run: str) -> None:
    """The model's error over the baseline's, one bar a capability, on a logarithmic scale; left of 1 it is better."""
    bars = summary_bars(rows)
    places = np.arange(len(bars))[::-1]
    ratios = np.array([ratio for _, _, ratio in bars])
    left = np.minimum(ratios, 1.0)
    colours = [MODEL if ratio <= 1 else MLP for ratio in ratios]
    axes.barh(places, np.maximum(ratios, 1.0) - left, left=left, height=0.62, color=colours)
    axes.axvline(1.0, color="black", linewidth=1.0)
    axes.set_xscale("log")
    low, high = min(0.5, float(ratios.min())), max(2.0, float(ratios.max()))
    axes.set_xlim(low / 2.2, high * 2.2)
    for place, ratio in zip(places, ratios, strict=True):
        better = ratio <= 1
        axes.annotate(
            f"{ratio:.2g}" if ratio < 100 else f"{ratio:.0f}",
            (ratio, place),
            xytext=(-4 if better else 4, 0),
            textcoords="offset points",
            ha="right" if better else "left",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(places, [f"{name}\nagainst {baseline}" for name, baseline, _ in bars], fontsize=7.5)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(LogLocator(base=10.0, subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("model's squared error / baseline's (left of 1: the model is better)")
    shares = [row["mlp_budget_fraction"] for row in rows if "mlp_budget_fraction" in row]
    short = f" (quick: the MLPs had {min(shares):.0%} of its steps)" if shares and min(shares) < 1 else ""
    axes.set_title(f"{run}: one model in its roles{short}", loc="left")


def summary_bars(rows: Sequence[Row]) -> list[tuple[str, str, float]]:
    """(what is asked for, baseline, model's error over the baseline's) of the capabilities that have one."""
    bars = []
    dynamics = _of(rows, "forward_dynamics")
    chosen = {row["steps_ahead"]: row for row in dynamics}
    for ahead in sorted({1, (len(dynamics) + 1) // 2, len(dynamics)} & set(chosen)):
        row = chosen[ahead]
        plural = "step" if ahead == 1 else "steps"
        bars.append((f"states {ahead} {plural} ahead", "MLP", row["error"] / row["mlp_error"]))
    for capability, mask, name, baseline, error in (
        ("inverse_dynamics", "inverse_dynamics", "inverse dynamics", "MLP", "mlp_error"),
        ("reward_prediction", "reward_prediction", "rewards, states seen", "MLP", "mlp_error"),
        ("reward_prediction", "forward_dynamics", "rewards, states not seen", "MLP", "mlp_error"),
        ("return_prediction", "reward_prediction", "returns-to-go", "the mean", "mean_error"),
        ("path_inpainting", "path_inpainting", "states between", "straight line", "interpolation_error"),
        ("behaviour_cloning", "behaviour_cloning", "behaviour cloning", "MLP", "mlp_error"),
        ("return_conditioned", "return_conditioned", "return-conditioned cloning", "MLP", "mlp_error"),
    ):
        for row in _of(rows, capability):
            if row["mask"] == mask and row[error] > 0:
                between = f", {row['steps_between']} steps" if "steps_between" in row else ""
                bars.append((name + between, baseline, row["error"] / row[error]))
    return bars
