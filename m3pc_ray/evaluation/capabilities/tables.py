"""What `m3pc capabilities` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from m3pc_ray.evaluation.capabilities.measure import Watch

Row = Mapping[str, Any]

NAMES = {
    "inverse_dynamics": "inverse dynamics",
    "reward_prediction": "rewards",
    "return_prediction": "returns",
    "path_inpainting": "path",
    "behaviour_cloning": "behaviour cloning",
    "return_conditioned": "return conditioning",
}
BASELINES = {
    "mlp_error": "MLP",
    "interpolation_error": "a line",
    "mean_error": "the mean",
    "mean_action_error": "the mean",
    "no_change_error": "no change",
}
"""Baselines' errors in rows, the strongest first."""

SMALLEST_PLAIN = 5e-4
"""Errors below it are printed with an exponent: four decimals would leave one digit."""

WORTH_SAYING = 1.05
"""Ratio of errors up to which the model counts as no worse than a baseline in the remarks."""


@contextmanager
def watching(console: Console) -> Iterator[Watch]:
    """One bar that says what is going on, gone afterwards; a line for everything that starts where no bar is drawn."""
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        begun: list[str] = []

        def watch(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)
            if what not in begun:
                begun.append(what)
                if not console.is_terminal:
                    console.print(what, highlight=False)

        yield watch


def capability_tables(rows: Sequence[Row]) -> list[Table]:
    """One table a group of capabilities: dynamics, predictions, acting, returns asked for, calibration."""
    tables = [_dynamics(_of(rows, "forward_dynamics")), _predictions(rows), _acting(rows)]
    return [*tables, _sweep(rows), _calibration(rows)]


def remarks(rows: Sequence[Row]) -> list[str]:
    """Where the model is no better than a baseline, and what an equal budget meant; one line each."""
    lines = []
    ahead = [row for row in _of(rows, "forward_dynamics") if row["error"] > WORTH_SAYING * row["mlp_error"]]
    if ahead:
        steps = ", ".join(str(row["steps_ahead"]) for row in ahead)
        ratios = [row["error"] / row["mlp_error"] for row in ahead]
        lines.append(
            f"worse than the MLP: forward dynamics {steps} ahead ({min(ratios):.1f} to {max(ratios):.1f} times)"
        )
    for row in rows:
        name = NAMES.get(row["capability"])
        baseline = strongest_baseline(row) if name else None
        if baseline is not None and row["error"] > WORTH_SAYING * row[baseline]:
            times = row["error"] / row[baseline]
            article = "the " if baseline == "mlp_error" else ""
            lines.append(
                f"worse than {article}{BASELINES[baseline]}: {name}{_mask_note(row)} ({times:.1f} times the error)"
            )
    for row in _of(rows, "behaviour_cloning") + _of(rows, "return_conditioned"):
        missing = row["mlp_return_mean"] - row["return_mean"]
        least = row["return_sem"] + row["mlp_return_sem"], (WORTH_SAYING - 1.0) * abs(row["data_return_mean"])
        if missing > max(least):
            lines.append(
                f"earns less than the MLP clone: {NAMES[row['capability']]} ({row['return_mean']:.0f} against "
                f"{row['mlp_return_mean']:.0f})"
            )
    fraction = max((row["mlp_budget_fraction"] for row in rows if "mlp_budget_fraction" in row), default=1.0)
    if fraction < 1:
        lines.append(f"quick: the MLPs had {fraction:.1%} of the model's gradient steps; more makes them better")
    return lines


def strongest_baseline(row: Row) -> str | None:
    """Name of the row's smallest baseline error; None where it has none."""
    found = [name for name in BASELINES if row.get(name) is not None]
    return min(found, key=lambda name: row[name]) if found else None


def _of(rows: Sequence[Row], capability: str) -> list[Row]:
    return [row for row in rows if row["capability"] == capability]


def _dynamics(rows: Sequence[Row]) -> Table:
    table = Table(
        title="forward dynamics: error of the state, units of the data's variance",
        caption="the policy chose later actions by the states asked for; the MLP does not see them",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in (
        "steps ahead",
        "model",
        "no later\nactions",
        "seeing\nthe past",
        "past, no\nlater",
        "MLP",
        "no\nchange",
    ):
        table.add_column(name, justify="right")
    names = ["error", "error_without_later_actions", "error_with_history"]
    names += ["error_with_history_without_later_actions", "mlp_error", "no_change_error"]
    for row in rows:
        table.add_row(str(row["steps_ahead"]), *(_number(row[name]) for name in names))
    return table


def _predictions(rows: Sequence[Row]) -> Table:
    shown = [row for row in rows if row["capability"] in NAMES]
    note = "states, rewards, returns: units of the data's variance; actions: range -1 to 1"
    if any(row.get("mask_was_trained") is False for row in shown):
        note += "\n* the run was not trained with this mask"
    table = Table(
        title="predictions on held-out episodes: squared error ± standard error",
        caption=note,
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, name in enumerate(("asked for", "model", "baseline", "its error")):
        table.add_column(name, justify="right" if index in (1, 3) else "left", no_wrap=True)
    for row in shown:
        baseline = strongest_baseline(row)
        table.add_row(
            NAMES[row["capability"]] + _mask_note(row),
            _with_error(row, "error"),
            BASELINES[baseline] if baseline else "-",
            _with_error(row, baseline) if baseline else "-",
        )
    return table


def _mask_note(row: Row) -> str:
    if row["capability"] in ("reward_prediction", "return_prediction"):
        return ", states shown" if row["mask"] == "reward_prediction" else ", states hidden"
    if row["capability"] == "path_inpainting":
        return f", {row['steps_between']} steps" + ("" if row["mask_was_trained"] else " *")
    return ""


def _acting(rows: Sequence[Row]) -> Table:
    played = _of(rows, "behaviour_cloning") + _of(rows, "return_conditioned")
    first = played[0]
    table = Table(
        title=f"played: {first['episodes']} episodes from seed {first['seed']}, ± standard error",
        caption=f"mean return of the data: {first['data_return_mean']:.0f}",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, name in enumerate(("role", "return", "score")):
        table.add_column(name, justify="right" if index else "left")
    shown = [(NAMES[row["capability"]] + " mask", row, "") for row in played] + [("MLP clone", first, "mlp_")]
    for name, row, prefix in shown:
        score = row[f"{prefix}score_mean"]
        table.add_row(
            name,
            f"{row[f'{prefix}return_mean']:.0f} ± {row[f'{prefix}return_sem']:.0f}",
            "-" if score is None else f"{score:.1f} ± {row[f'{prefix}score_sem']:.1f}",
        )
    return table


def _sweep(rows: Sequence[Row]) -> Table:
    points, (summary,) = _of(rows, "return_conditioned_sweep"), _of(rows, "return_conditioned_sweep_summary")
    correlations = [summary["rank_correlation"], summary["rank_correlation_inside_data"]]
    said = ["-" if value is None else f"{value:.2f}" for value in correlations]
    table = Table(
        title=f"returns asked for and achieved, {summary['episodes']} episodes each",
        caption=f"data: {summary['data_return_min']:.0f} to {summary['data_return_max']:.0f}, mean "
        f"{summary['data_return_mean']:.0f}; rank correlation {said[0]}, asked within the data {said[1]}",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("asked", "achieved", "mean miss"):
        table.add_column(name, justify="right")
    for row in points:
        achieved = f"{row['achieved_return']:.0f} ± {row['achieved_return_sem']:.0f}"
        table.add_row(f"{row['asked_return']:.0f}", achieved, f"{row['error']:.0f}")
    return table


def _calibration(rows: Sequence[Row]) -> Table:
    points, (summary,) = _of(rows, "calibration"), _of(rows, "calibration_summary")
    table = Table(
        title="calibration: logged actions inside central intervals of the action distribution",
        caption=f"negative log-likelihood {summary['negative_log_likelihood']:.2f}, entropy {summary['entropy']:.2f} "
        f"nats; {summary['at_bounds']:.1%} of entries at a bound",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("nominal %")
    for row in points:
        table.add_column(f"{100 * row['nominal']:.0f}", justify="right", no_wrap=True)
    table.add_row("covered %", *(f"{100 * row['covered']:.0f}" for row in points))
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if value >= SMALLEST_PLAIN else f"{value:.1e}"


def _with_error(row: Row, name: str) -> str:
    error = row.get(f"{name}_sem")
    return _number(row[name]) + ("" if error is None else f" ± {_number(error)}")
