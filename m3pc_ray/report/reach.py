"""PNG figures of a comparison of planners that reach for goals: what was wanted against what was reached, and how far
the reached states lie from the data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from m3pc_ray.report.reach_record import Episode, FloatArray, ReachRecord, read_reach
from m3pc_ray.report.style import COLOURS, LABELS, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKED_WAYPOINTS = 45
"""Wanted states of an episode get a marker each up to so many; more would be a band."""
DRAWN_WAYPOINTS = 60
"""Whole waypoints that the cloud shows, at most."""
_WANTED: dict[str, Any] = {"color": "black", "linestyle": (0, (4, 2)), "linewidth": 1.3}
_END: dict[str, Any] = {"marker": "X", "markersize": 8, "markeredgecolor": "white", "markeredgewidth": 0.6}
OTHER_COLOUR = "#aa3377"
"""Of a planner without one of its own."""


def tracking_figure(folder: str | Path, path: str | Path) -> Path:
    """Wanted (dashed) against reached over steps: a column a planner, a row a plotted dimension, a line an episode.

    A cross marks where an episode terminated. Wanted states that differ between episodes, as of goals that drift, are
    drawn for each.

    Args:
        folder: written by `m3pc reach`.
        path: of the PNG.

    Raises:
        UserError: the folder's files are missing or wrong, or the figure cannot be written.
    """
    record = read_reach(folder)
    planners, shown = record.planners, record.plotted_dimensions
    width, height = 0.9 + 3.4 * len(planners), 1.0 + 2.3 * len(shown)
    with figure(path, len(shown), len(planners), width=width, height=height) as panels:
        grid = np.asarray(panels, dtype=object).reshape(len(shown), len(planners))
        for row, dimension in zip(grid, shown, strict=True):
            for axes, planner in zip(row, planners, strict=True):
                _draw_tracking(axes, record.of(planner), dimension, COLOURS.get(planner, OTHER_COLOUR))
            share_limits(list(row))
            row[0].set_ylabel(record.labels[dimension])
            for axes in row[1:]:
                axes.tick_params(labelleft=False)
        share_limits(panels, "x")
        for axes, planner in zip(grid[0], planners, strict=True):
            title(axes, planner, _tracking_numbers(record, planner))
        for axes in grid[-1]:
            axes.set_xlabel(f"step ({record.dt:g} s each)")
        for axes in grid[:-1].flat:
            axes.tick_params(labelbottom=False)
        heading(panels[0], record, _tracking_legend(record))
    return Path(path)


def cloud_figure(folder: str | Path, path: str | Path) -> Path:
    """States of the data (grey) and those reached (a panel a planner) in the plane of the data's two largest variances.

    Waypoints are black crosses where the planners were given whole states; others have no place in the plane and are
    left out.

    Args:
        folder: written by `m3pc reach`.
        path: of the PNG.

    Raises:
        UserError: the folder's files are missing or wrong, or the figure cannot be written.
    """
    record = read_reach(folder)
    planners = record.planners
    with figure(path, 1, len(planners), width=0.9 + 3.4 * len(planners), height=4.1) as panels:
        for axes, planner in zip(panels, planners, strict=True):
            axes.scatter(record.points[:, 0], record.points[:, 1], s=3, color="#bbbbbb", linewidths=0, rasterized=True)
            colour = COLOURS.get(planner, OTHER_COLOUR)
            for episode in record.of(planner):
                places = record.project(episode.reached)
                axes.scatter(places[:, 0], places[:, 1], s=5, color=colour, alpha=0.5, linewidths=0)
            waypoints = _whole_waypoints(record)
            places = record.project(waypoints)
            axes.scatter(
                places[:, 0], places[:, 1], marker="x", s=34, color="white", linewidths=2.6, zorder=3
            )  # a halo
            axes.scatter(places[:, 0], places[:, 1], marker="x", s=26, color="black", linewidths=1.1, zorder=3)
            title(axes, planner, _cloud_numbers(record, planner))
            axes.set_xlabel(f"first component ({record.explained[0]:.0%} of the variance)")
        share_limits(panels)
        share_limits(panels, "x")
        panels[0].set_ylabel(f"second component ({record.explained[1]:.0%})")
        for axes in panels[1:]:
            axes.tick_params(labelleft=False)
        handles = [Line2D([], [], color="#bbbbbb", marker="o", markersize=4, linestyle="", label="states of the data")]
        handles.append(Line2D([], [], color="#555555", marker="o", markersize=4, linestyle="", label="states reached"))
        if len(waypoints):
            handles.append(Line2D([], [], color="black", marker="x", markersize=5, linestyle="", label="waypoints"))
        heading(panels[0], record, handles)
    return Path(path)


def _draw_tracking(axes: Axes, episodes: list[Episode], dimension: int, colour: str) -> None:
    for wanted in _distinct([episode.wanted[:, dimension] for episode in episodes]):
        steps = np.flatnonzero(~np.isnan(wanted))
        axes.plot(steps, wanted[steps], zorder=2.5, label="wanted", **_WANTED, **_marks(len(steps)))
    width, alpha = (1.1, 0.75) if len(episodes) <= 10 else (0.7, 0.5)
    for episode in episodes:
        values = episode.reached[:, dimension]
        axes.plot(values, color=colour, linewidth=width, alpha=alpha, label="reached")
        if episode.terminated:
            axes.plot(len(values) - 1, values[-1], color=colour, zorder=3, **_END)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    last = max(len(episode.wanted) for episode in episodes) - 1
    axes.set_xlim(-0.01 * last, 1.02 * last)  # a mark on the last step is not cut


def _marks(waypoints: int) -> dict[str, Any]:
    return {"marker": "o", "markersize": 3} if waypoints <= MARKED_WAYPOINTS else {}


def _distinct(arrays: list[FloatArray]) -> list[FloatArray]:
    """The arrays without repetitions; those that are all NaN are left out."""
    kept: list[FloatArray] = []
    for array in arrays:
        if not np.isnan(array).all() and not any(np.array_equal(array, other, equal_nan=True) for other in kept):
            kept.append(array)
    return kept


def _whole_waypoints(record: ReachRecord) -> FloatArray:
    """(n, observation_dim) goals that fix every entry, each once: those given to the planners, or wanted."""
    wanted = np.concatenate([record.waypoints, *(episode.wanted for episode in record.episodes)])
    whole = np.unique(wanted[~np.isnan(wanted).any(axis=1)], axis=0)
    return whole[:: math.ceil(len(whole) / DRAWN_WAYPOINTS)] if len(whole) > DRAWN_WAYPOINTS else whole


def share_limits(panels: list[Axes], axis: str = "y") -> None:
    """Gives all panels the widest limits of an axis."""
    limits = [axes.get_ylim() if axis == "y" else axes.get_xlim() for axes in panels]
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    for axes in panels:
        if axis == "y":
            axes.set_ylim(low, high)
        else:
            axes.set_xlim(low, high)


def _tracking_legend(record: ReachRecord) -> list[Line2D]:
    wanted = [episode.wanted[:, list(record.plotted_dimensions)] for episode in record.episodes]
    counts = [int((~np.isnan(states)).sum(axis=0).max()) for states in wanted]
    handles = [Line2D([], [], color="#555555", linewidth=1.1, label="reached, a line an episode")]
    if max(counts):
        handles.insert(0, Line2D([], [], label="wanted", **_WANTED, **_marks(max(counts))))
    if any(episode.terminated for episode in record.episodes):
        handles.append(Line2D([], [], color="#555555", linestyle="", label="terminated", **_END))
    return handles


def _tracking_numbers(record: ReachRecord, planner: str) -> str:
    row = row_of(record, planner)
    error = row.get("tracking_error_mean")
    parts = [f"error {error:.2f} std"] if error is not None else []
    if row.get("success_rate") is not None:
        parts.append(f"success {row['success_rate']:.0%}")
    return ", ".join(parts)


def _cloud_numbers(record: ReachRecord, planner: str) -> str:
    row = row_of(record, planner)
    distance, outside = row.get("nearest_distance_mean"), row.get("share_outside")
    if distance is None or outside is None:
        return ""
    return f"distance {distance:.2f} std, {outside:.0%} outside"


def row_of(record: ReachRecord, planner: str) -> dict[str, Any]:
    """The planner's row of the table; empty where none was recorded."""
    return next((row for row in record.rows if row.get("planner") == planner), {})


def title(axes: Axes, planner: str, numbers: str) -> None:
    """What a panel shows: the planner, and its numbers below."""
    axes.set_title(LABELS.get(planner, planner) + (f"\n{numbers}" if numbers else ""), loc="left")


def heading(axes: Axes, record: ReachRecord, handles: list[Line2D]) -> None:
    """What the whole figure shows, and its legend."""
    drawn = axes.figure
    drawn.suptitle(f"{record.task} in {record.environment}", x=0.01, ha="left", fontsize=11)
    drawn.legend(handles=handles, loc="outside lower left", ncols=len(handles))
