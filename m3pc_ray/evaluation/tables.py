"""What evaluation and diagnostics print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from m3pc_ray.config import Guide
from m3pc_ray.evaluation.evaluate import Progress

PLANNER_NAMES = {"none": "none (BTM)", "return": "return (M³PC-M)", "critic": "critic (M³PC-Q)"}


@contextmanager
def evaluation_bars(console: Console, planners: Sequence[Guide], episodes: int) -> Iterator[dict[Guide, Progress]]:
    """A bar a planner while episodes are played, gone afterwards and when interrupted; nothing in a log file."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    with Bars(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal) as bars:

        def follow(planner: Guide) -> Progress:
            task = bars.add_task(PLANNER_NAMES[planner], total=episodes, text="waiting", start=False)

            def show(finished: int, steps: int, mean_return: float) -> None:
                bars.start_task(task)
                known = f", mean return {mean_return:.0f}" if finished else ""
                bars.update(task, completed=finished, text=f"{steps:,} steps{known}")

            return show

        yield {planner: follow(planner) for planner in planners}


def score_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of `evaluate_planners`: normalised score and raw return, mean ± standard error and extremes.

    Of a task whose measure is success, the fraction of episodes with it and its 95 % interval stand there instead.
    """
    first = rows[0]
    scored, solved = first["score_mean"] is not None, "success_mean" in first
    without = f"no reference returns are known for {first['environment']}, so no score"
    if solved:
        without = "success: fraction of episodes solved, with the 95 % interval of the mean"
    table = Table(
        title=f"{first['environment']}, {first['episodes']} episodes from seed {first['seed']}",
        caption="± standard error; decisions/s of planning time" if scored else f"± standard error; {without}",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("planner")
    measures = ("success", "95 %") if solved else ("score", "min, max", "return", "min, max")
    for name in (*measures, "length", "decisions/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if solved:
            shown = _mean_and_range(row, "success", 2, ("low", "high"))
        else:
            scores = _mean_and_range(row, "score", 1) if scored else ("-", "-")
            shown = (*scores, *_mean_and_range(row, "return", 0))
        table.add_row(
            row["planner"],
            *shown,
            f"{row['length_mean']:.0f}",
            f"{row['decisions_per_s']:.0f}",
        )
    return table


def _mean_and_range(
    row: Mapping[str, Any], name: str, digits: int, ends: tuple[str, str] = ("min", "max")
) -> tuple[str, ...]:
    mean, error, low, high = (f"{row[f'{name}_{part}']:.{digits}f}" for part in ("mean", "sem", *ends))
    return f"{mean} ± {error}", f"{low}, {high}"


def diagnosis_tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The rows of diagnostics: one table of mask errors, one with a column per planner."""
    tables = []
    masks = [row for row in rows if row["kind"] == "mask"]
    if masks:
        title = "errors on held-out episodes (states, rewards, returns: units of the data's variance)"
        table = Table(title=title, box=SIMPLE_HEAD)
        table.add_column("asked for / mask")
        table.add_column("mean squared error", justify="right")
        for row in masks:
            table.add_row(row["name"], f"{row['value']:.4f}")
        tables.append(table)
    planners = [row for row in rows if row["kind"] == "planner"]
    if planners:
        states, steps = planners[0]["states"], planners[0]["rollout_steps"]
        title = f"planning against the simulator: {states} states, {steps} further steps of the BTM"
        table = Table(title=title, box=SIMPLE_HEAD)
        table.add_column("")
        for row in planners:
            table.add_column(PLANNER_NAMES[row["planner"]], justify="right", no_wrap=True)
        for name in planners[0]:
            if name in ("kind", "planner", "states", "rollout_steps") or name.endswith("_sem"):
                continue
            table.add_row(name.replace("_", " "), *(_cell(row, name) for row in planners))
        tables.append(table)
    return tables


def pattern_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The errors of `m3pc masks --run`: a row for each modality that a pattern asks for."""
    table = Table(
        title=f"errors of what is asked for, on {rows[0]['segments']} held-out segments",
        caption="mean squares: states, returns, rewards in the data's variance, actions raw",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("pattern", "t", "asked for", "steps"):
        table.add_column(name, no_wrap=True)
    table.add_column("error", justify="right", no_wrap=True)
    table.add_column("first, last step", justify="right", no_wrap=True)
    for row in rows:
        steps, errors = row["steps"], row["error_by_step"]
        shown = str(steps[0]) if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
        table.add_row(
            row["pattern"],
            str(row["t"]),
            row["asked"],
            shown,
            f"{row['error']:.4f}",
            f"{errors[0]:.4f}, {errors[-1]:.4f}",
        )
    return table


def _cell(row: Mapping[str, Any], name: str) -> str:
    value, error = row.get(name), row.get(f"{name}_sem")
    if value is None:
        return "-"
    if isinstance(value, int):
        return str(value)
    return f"{value:.3f}" + (f" ± {error:.3f}" if error is not None else "")
