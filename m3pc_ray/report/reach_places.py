"""PNG figure of a task about a place: where episodes went and ended, seen from above."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from m3pc_ray.report.reach import OTHER_COLOUR, heading, row_of, share_limits, title
from m3pc_ray.report.reach_record import ReachRecord, RecordedPlane, read_reach
from m3pc_ray.report.style import COLOURS, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DEMONSTRATED: dict[str, Any] = {"color": "#999999", "marker": "+", "linewidths": 0.8, "s": 22}
_START: dict[str, Any] = {"color": "#555555", "marker": ".", "markersize": 4, "linestyle": ""}
_REACHED: dict[str, Any] = {"marker": "o", "markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.6}
_MISSED: dict[str, Any] = {"marker": "X", "markersize": 7, "markeredgecolor": "black", "markeredgewidth": 0.6}


def places_figure(folder: str | Path, path: str | Path) -> Path | None:
    """The way of every episode in the task's plane: a panel a planner, a line an episode from its dot to its end.

    A disc ends an episode that succeeded, a cross one that did not; the dashed rectangle is where success is, and grey
    crosses are where the data's episodes ended.

    Args:
        folder: written by `m3pc reach`.
        path: of the PNG.

    Returns:
        The path; None, and nothing is drawn, where the task is not about a place.

    Raises:
        UserError: the folder's files are missing or wrong, or the figure cannot be written.
    """
    record = read_reach(folder)
    plane = record.plane
    if plane is None:
        return None
    planners = record.planners
    across, upwards = plane.dimensions
    with figure(path, len(planners), width=8.6, height=0.9 + 2.2 * len(planners)) as panels:
        for axes, planner in zip(panels, planners, strict=True):
            _draw(axes, record, plane, planner)
            axes.set_ylabel(record.labels[upwards])
        share_limits(panels)
        share_limits(panels, "x")
        for axes in panels:
            axes.set_aspect("equal")
            _draw_target(axes, plane)  # afterwards: what reaches to infinity is to end at the panel's edge
        panels[-1].set_xlabel(record.labels[across])
        for axes in panels[:-1]:
            axes.tick_params(labelbottom=False)
        heading(panels[0], record, _legend(plane))
    return Path(path)


def _draw(axes: Axes, record: ReachRecord, plane: RecordedPlane, planner: str) -> None:
    colour = COLOURS.get(planner, OTHER_COLOUR)
    row = row_of(record, planner)
    episodes = record.of(planner)
    successes = row.get("successes") or [False] * len(episodes)
    axes.scatter(plane.demonstrated[:, 0], plane.demonstrated[:, 1], label="demonstrated", **_DEMONSTRATED)
    for episode, succeeded in zip(episodes, successes, strict=True):
        way = episode.reached[:, list(plane.dimensions)]
        axes.plot(way[:, 0], way[:, 1], color=colour, linewidth=0.8, alpha=0.55, label="way")
        axes.plot(way[0, 0], way[0, 1], **_START)
        axes.plot(way[-1, 0], way[-1, 1], color=colour, zorder=3, **(_REACHED if succeeded else _MISSED))
    rate = row.get("success_rate")
    title(axes, planner, f"success {rate:.0%}" if rate is not None else "")


def _draw_target(axes: Axes, plane: RecordedPlane) -> None:
    if np.isnan(plane.target).all():
        return
    (left, right), (bottom, top) = (
        np.where(np.isnan(target), limits, target)
        for target, limits in zip(plane.target, (axes.get_xlim(), axes.get_ylim()), strict=True)
    )
    corner, width, height = (left, bottom), right - left, top - bottom
    axes.add_patch(Rectangle(corner, width, height, fill=False, linestyle=(0, (4, 2)), linewidth=1.3, zorder=2.5))


def _legend(plane: RecordedPlane) -> list[Line2D]:
    handles = [
        Line2D([], [], label="start", **_START),
        Line2D([], [], color="#555555", linestyle="", label="end, succeeded", **_REACHED),
        Line2D([], [], color="#555555", linestyle="", label="end, failed", **_MISSED),
        Line2D([], [], color="#999999", marker="+", linestyle="", label="ends in the data"),
    ]
    if not np.isnan(plane.target).all():
        handles.append(Line2D([], [], color="black", linestyle=(0, (4, 2)), label="asked for"))
    return handles
