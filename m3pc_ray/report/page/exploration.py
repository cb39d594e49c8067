"""Exploration histograms: what the planner's exploring episodes returned, early and late in a run."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m3pc_ray.report.metrics import FloatArray
from m3pc_ray.report.page.charts import Chart, Charts, Drawn, colour_of, numbers, places
from m3pc_ray.report.page.runs import Group, ReportedRun
from m3pc_ray.report.page.section import Section

BINS = 20
WINDOWS = 4
FEWER_WINDOWS = 2
"""Where many groups are compared."""
MANY_GROUPS = 3


@dataclass(frozen=True)
class Explored:
    """Exploration episodes of a group that ended by themselves, in any order: (episodes,) each."""

    steps: FloatArray
    """Environment steps of the run when the episode ended."""
    returns: FloatArray
    cut: int
    """Episodes that were cut, which are not in the arrays: their returns would be too low."""


def exploration_section(groups: Sequence[Group]) -> Section | None:
    """A histogram for every window of environment steps, the same bins in all; None where nobody explored."""
    found = [(group, explored_by(group)) for group in groups if group.kind == "finetune"]
    found = [(group, explored) for group, explored in found if len(explored.returns)]
    if not found:
        return None
    everything = np.concatenate([explored.returns for _, explored in found])
    edges = (
        np.histogram_bin_edges(everything, BINS) if np.ptp(everything) else everything[0] + np.linspace(-1, 1, BINS + 1)
    )
    windows = WINDOWS if len(found) <= MANY_GROUPS else FEWER_WINDOWS
    charts = Charts("Exploration")
    parts = [
        "<p>Returns of the episodes that the planner explored with, by the environment steps at which they ended. "
        "The bulk should move to the right. A second hump that stays on the left are episodes that end early: the "
        "planner still finds ways to fall, which is what finetuning learns from; one that grows means harm.</p>"
    ]
    for place, (group, explored) in enumerate(found):
        if len(found) > 1:
            parts.append(f"<h3>{html.escape(group.label)}</h3>")
        parts.append(charts.html(_histograms(group, explored, edges, windows, colour_of(place)), small=True))
        if explored.cut:
            episodes = "episode that was" if explored.cut == 1 else "episodes that were"
            parts.append(
                f'<p class="muted">Without {explored.cut:,} {episodes} cut: by the end of the budget, or with their '
                "worker.</p>"
            )
    return charts.section("\n".join(parts))


def explored_by(group: Group) -> Explored:
    """All seeds' episodes together."""
    rows = [row for run in group.runs for row in run.metrics.rows if row["stream"] == "episodes"]
    rows = [row for row in rows if row.get("return") is not None]
    whole = [row for row in rows if row.get("end") != "cut"]
    steps, returns = (np.array([row[name] for row in whole], dtype=np.float64) for name in ("step", "return"))
    return Explored(steps, returns, len(rows) - len(whole))


def windows_of(explored: Explored, windows: int) -> list[tuple[float, float, FloatArray]]:
    """(first step, last step, returns) of windows of equal steps that cover the episodes; empty ones too."""
    edges = np.linspace(0, explored.steps.max(), windows + 1)
    place = np.clip(np.searchsorted(edges, explored.steps, "left") - 1, 0, windows - 1)
    return [(edges[w], edges[w + 1], explored.returns[place == w]) for w in range(windows)]


def _histograms(group: Group, explored: Explored, edges: FloatArray, windows: int, colour: int) -> list[Chart]:
    counted = [
        (low, high, np.histogram(returns, edges)[0], returns) for low, high, returns in windows_of(explored, windows)
    ]
    highest = max(int(counts.max()) for _, _, counts, _ in counted)
    charts = []
    for low, high, counts, returns in counted:
        if not len(returns):
            continue
        charts.append(
            Chart(
                f"Steps {low:,.0f} to {high:,.0f}",
                f"{len(returns):,} episode{'s' if len(returns) > 1 else ''}, median return {np.median(returns):,.0f}"
                f"{_weights(group.runs, low, high)}.",
                x="return",
                y="episodes",
                series=[Drawn("episodes", colour, places(edges[:-1]), numbers(counts, positive=True), bars=True)],
                x_range=(float(edges[0]), float(edges[-1])),
                y_range=(0.0, 1.08 * highest),
                height=170,
                legend=False,
            )
        )
    return charts


def _weights(runs: Sequence[ReportedRun], low: float, high: float) -> str:
    """The model updates behind the acting weights in a window, such as `, weights of 0 to 230 updates`."""
    versions = []
    for run in runs:
        steps, values = run.metrics.series("online", "weight_version")
        if not len(steps):  # one process: the newest weights act
            steps, values = run.metrics.series("online", "btm_updates")
        versions += list(values[(steps >= low) & (steps <= high)])
    return f", weights of {min(versions):,.0f} to {max(versions):,.0f} updates" if versions else ""
