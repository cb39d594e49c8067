"""What `m3pc reach` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from m3pc_ray.evaluation.reaching.episodes import Progress
from m3pc_ray.planning.backward import GoalPlanner

PLANNER_NAMES = {
    "backward": "backward (M³PC)",
    "goal_mask": "goal_mask (one pass)",
    "bc": "bc (behaviour cloning)",
}


@contextmanager
def reach_bars(console: Console, planners: Sequence[GoalPlanner]) -> Iterator[dict[GoalPlanner, Progress]]:
    """A bar a planner while its episodes are played together, gone afterwards; nothing in a log file."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"))
    with Bars(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal) as bars:

        def follow(planner: GoalPlanner) -> Progress:
            task = bars.add_task(planner, total=None, start=False)

            def show(step: int, most: int) -> None:
                bars.start_task(task)
                bars.update(task, completed=step, total=most)

            return show

        yield {planner: follow(planner) for planner in planners}


def reach_table(rows: Sequence[Mapping[str, Any]], success: str) -> Table:
    """The rows of `make_row` for one task; `success` is the sentence that says when an episode succeeds."""
    first = rows[0]
    episodes = "1 episode" if first["episodes"] == 1 else f"{first['episodes']} episodes"
    table = Table(
        title=f"{first['task']} in {first['environment']}, {episodes} from seed {first['seeds'][0]}",
        caption=(
            f"success: {success}\nerrors, distances: standard deviations of the data, ± standard error; distance: to "
            f"the nearest state of the data, for held-out data {first['data_distance_median']:.2f} (median); outside: "
            f"share of states beyond {first['data_distance_p99']:.2f}, its 99th percentile"
        ),
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("planner", no_wrap=True)
    names = ("tracking error", "key error", "success", "visited", "length", "terminated", "distance", "outside")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            PLANNER_NAMES.get(row["planner"], row["planner"]),
            _with_error(row, "tracking_error"),
            _with_error(row, "key_error"),
            _share(row["success_rate"]),
            _share(row["waypoints_visited_mean"]),
            f"{row['length_mean']:.0f}",
            _share(row["terminated_rate"]),
            f"{row['nearest_distance_mean']:.2f}",
            _share(row["share_outside"]),
        )
    return table


def success_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The numbers behind the success of every planner, as means over the episodes that have them."""
    table = Table(title="behind the success, means", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("planner", no_wrap=True)
    keys = [key for key in rows[0] if key.startswith("success_") and key.endswith("_mean")]
    for key in keys:
        table.add_column(key.removeprefix("success_").removesuffix("_mean").replace("_", " "), justify="right")
    for row in rows:
        cells = ("-" if row[key] is None else f"{row[key]:.3g}" for key in keys)
        table.add_row(PLANNER_NAMES.get(row["planner"], row["planner"]), *cells)
    return table


def _with_error(row: Mapping[str, Any], name: str) -> str:
    mean, error = row[f"{name}_mean"], row[f"{name}_sem"]
    return "-" if mean is None else f"{mean:.2f} ± {error:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
