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
    """A row a planner, 80 characters wide; `success` is the sentence that says when an episode succeeds.

    `rows` are those of `make_row` for one task.
    """
    first = rows[0]
    episodes = "1 episode" if first["episodes"] == 1 else f"{first['episodes']} episodes"
    table = Table(
        title=f"{first['task']} in {first['environment']}, {episodes} from seed {first['seeds'][0]}",
        caption=f"success: {success}\nerrors: standard deviations of the data, ± standard error of the mean",
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("planner", no_wrap=True)
    for name in ("tracking\nerror", "key\nerror", "success", "visited", "length", "terminated"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["planner"],
            _with_error(row, "tracking_error"),
            _with_error(row, "key_error"),
            _share(row["success_rate"]),
            _share(row["waypoints_visited_mean"]),
            f"{row['length_mean']:.0f}",
            _share(row["terminated_rate"]),
        )
    return table


def details_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A column a planner: the numbers behind its success, how far from the data it came, what it missed.

    `rows` are those of `make_row` or `reach.compare`. Of the success, means over the episodes that have the number.
    """
    first = rows[0]
    table = Table(
        title="behind it, means over episodes",
        caption=(
            "distance: of reached states to the nearest of the data, in standard deviations; for held-out data "
            f"{first['data_distance_median']:.2f} (median)\noutside the data: states farther than "
            f"{first['data_distance_p99']:.2f}, the 99th percentile of held-out data"
        ),
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("measure", no_wrap=True)
    for row in rows:
        table.add_column(row["planner"], justify="right", no_wrap=True)
    for key in (key for key in first if key.startswith("success_") and key.endswith("_mean")):
        table.add_row(_words(key), *(_number(row[key]) for row in rows))
    table.add_row("distance to the data", *(_number(row["nearest_distance_mean"]) for row in rows))
    table.add_row("outside the data", *(_share(row["share_outside"]) for row in rows))
    for name, key in (("waypoints missed", "missed_mean"), ("delay (steps)", "delay_mean")):
        if key in first:  # of rows that `make_row` alone made, nobody counted
            table.add_row(name, *(_number(row[key]) for row in rows))
    return table


def _words(key: str) -> str:
    return key.removeprefix("success_").removesuffix("_mean").replace("_", " ")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _with_error(row: Mapping[str, Any], name: str) -> str:
    mean, error = row[f"{name}_mean"], row[f"{name}_sem"]
    return "-" if mean is None else f"{mean:.2f} ± {error:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
