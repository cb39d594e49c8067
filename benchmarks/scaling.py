"""Environment steps a second over workers and environments, against what the simulation alone allows.

Every environment takes a simulated 20 ms a step (a sleep, so that no core is needed). A worker steps its environments
one after another, so W workers can at best take W / 20 ms steps a second, however many environments they have; more
environments a worker are what hides planning behind simulation, and with a single one nothing is hidden. Each point is
a run of `m3pc finetune` without updates, measured from the workers' own counts once all of them are at work.

With the tiny model the planner is never the limit. With one of real size (width 128, N 64, guide critic) it becomes
the limit; its time for a batch, a + b n seconds for n environments, is measured in this process before and after each
run, and the model of benchmarks/planner_feed.py predicts the rate from it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.online.roles import make_plan_service
from m3pc_ray.online.watching.live import LiveStatus
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.resolve import load
from m3pc_ray.trajectories.store import write_store

from .pendulum import SLOW, SLOW_STEP_SECONDS, random_episodes
from .planner_feed import ROWS, PlannerTime, fit, measure_planner, predicted_rate, workers_fed
from .untrained import untrained_online_run
from .watched_run import watched

STEPS = 10**9
"""More than any measurement takes."""
PLANNER_SECONDS = 3.0
"""For timing the planner, before and after a run."""
START_SECONDS = 300.0
"""Longest start of a run."""
CALL_SECONDS = 1.5e-3
"""A call of an actor and its answer: 1 to 2 ms, measured on an idle machine (a larger context costs no more)."""
COMMON: dict[str, Any] = {
    "device": "cpu",
    "online.steps": STEPS,
    "online.replay_capacity": 100_000,
    "online.btm_updates_per_step": 0.0,
    "online.critic_updates_per_step": 0.0,
    "online.rate_tolerance_steps": 12_800,  # nothing is learnt, so nothing holds the leases short
    "online.evaluate_every": 0,
    "online.evaluation_episodes": 1,
    "online.threads": 1,
    "evaluation.parallel_environments": 1,
    "logging.tensorboard": False,
}
TINY: dict[str, Any] = {
    "model.width": 16,
    "model.heads": 2,
    "model.encoder_layers": 1,
    "model.segment_length": 4,
    "planner.context_length": 2,
    "planner.horizon": 1,
    "planner.precision": "float32",
    "critic.hidden_width": 16,
    "online.guide": "none",
    "online.num_candidates": 1,
}
"""A model so small that planning takes no time to speak of."""


@dataclass(frozen=True)
class Point:
    """One run: a model's name in MODELS, workers, environments of each, and its task."""

    model: str
    workers: int
    environments: int
    task: str = "slow"

    @property
    def name(self) -> str:
        many = self.workers * self.environments
        task = "" if self.task == "slow" else f", {self.task}"
        return f"{self.model}{task}, {many} on {self.workers} worker{'s' * (self.workers > 1)}"


MODELS: dict[str, dict[str, Any]] = {
    "tiny": TINY,
    "N 64": {"online.num_candidates": 64},
    "N 128": {"online.num_candidates": 128},
}
SCALING = (Point("tiny", 1, 1), Point("tiny", 1, 4), Point("tiny", 2, 4), Point("tiny", 4, 4), Point("tiny", 4, 16))
LIMITED = (Point("N 64", 1, 4), Point("N 64", 4, 4), Point("N 64", 4, 16), Point("N 128", 4, 16))
FAST_TASK = (Point("N 64", 2, 2, "hopper"), Point("N 64", 4, 16, "hopper"))
"""Environments that take next to no time, for which batches fill by themselves or not at all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--measured-seconds", type=float, default=40.0, metavar="S", help="of a run (default: 40)")
    parser.add_argument("--only", metavar="TEXT", default="", help="the points whose name contains this, such as N 64")
    parser.add_argument("--figure", metavar="FILE", help="draw measured and predicted steps a second into this PNG")


def measure(arguments: argparse.Namespace, describe: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row a point; with --quick the 64 environments of the tiny model alone, for 10 seconds.

    Raises:
        UserError: a run fails or does not start.
    """
    if arguments.measured_seconds <= 0:
        raise UserError(f"--measured-seconds must be above 0, not {arguments.measured_seconds:g}")
    points: tuple[Point, ...] = SCALING[-1:] if arguments.quick else SCALING + LIMITED + FAST_TASK
    points = tuple(point for point in points if arguments.only in point.name)
    if not points:
        raise UserError(f"--only {arguments.only}: no point's name contains this")
    seconds = 10.0 if arguments.quick else arguments.measured_seconds
    rows = []
    for point in points:
        with tempfile.TemporaryDirectory(prefix="m3pc-scaling-") as folder:
            run = make_run(Path(folder), point)
            describe(f"planner of {point.name}")
            service = make_plan_service(run, "cpu")
            before = measure_planner(service, PLANNER_SECONDS)
            describe(point.name)
            measured = steady_state(run, point.workers, seconds)
            after = measure_planner(service, PLANNER_SECONDS)  # other work on the machine comes and goes
            planner = fit(ROWS, [0.5 * (first + last) for first, last in zip(before, after, strict=True)])
            rows.append(_row(point, planner, measured))
    return rows


def make_run(folder: Path, point: Point) -> RunFolder:
    """An untrained run at its step 0."""
    settings = COMMON | MODELS[point.model]
    settings["online.rollout_workers"], settings["online.environments_per_worker"] = point.workers, point.environments
    if point.task == "hopper":
        trajectories = load("bundled/hopper")
        settings["data.dataset"] = "bundled/hopper"
    else:
        trajectories = random_episodes(SLOW)
        write_store(trajectories, folder / "data")
        settings["data.dataset"] = str(folder / "data")
    return untrained_online_run(folder, with_settings(RunConfig(), settings), trajectories)


def steady_state(run: RunFolder, workers: int, seconds: float) -> dict[str, float]:
    """Means over the statuses of so many seconds, from when every worker has got into its pace."""
    with watched(run) as driver:
        driver.wait_for(lambda status: _at_work(status, workers), START_SECONDS)
        warm_up = time.monotonic() + 0.25 * seconds  # the first evaluation, and the choice of lanes
        for _ in driver.statuses(0.25 * seconds):
            if time.monotonic() > warm_up:
                break
        statuses = list(driver.statuses(seconds))
    if len(statuses) < 3:
        raise UserError(f"{run.path}: {len(statuses)} statuses in {seconds:g} s; measure for longer")
    metrics = ("batch_mean", "batch_fill", "batch_ms", "wait_ms", "busy", "decisions_per_second")
    means = {f"planner_{name}": _mean(statuses, "planner", name) for name in metrics}
    means |= {name: _mean(statuses, "rollout_worker", name) for name in ("planning_share", "simulation_share")}
    rates = [sum(_rates(status)) for status in statuses]
    return {"steps_per_second": statistics.fmean(rates), **means, "statuses": float(len(statuses))}


def _mean(statuses: list[LiveStatus], kind: str, name: str) -> float:
    """A value's mean over all roles of a kind."""
    return statistics.fmean(role.values[name] for status in statuses for role in status.roles if role.kind == kind)


def _row(point: Point, planner: PlannerTime, measured: dict[str, float]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "case": point.name,
        "task": point.task,
        "model": point.model,
        "workers": point.workers,
        "environments": point.workers * point.environments,
        "planner_fixed_ms": 1000.0 * planner.fixed,
        "planner_per_row_ms": 1000.0 * planner.per_row,
        "planner_could": measured["planner_decisions_per_second"] / max(measured["planner_busy"], 1e-9),
        **measured,
    }
    if point.task == "slow":
        step, ideal = SLOW_STEP_SECONDS, point.workers / SLOW_STEP_SECONDS
        predicted, limit = predicted_rate(point.workers, point.environments, step, CALL_SECONDS, planner)
        row |= {"ideal": ideal, "of_ideal": measured["steps_per_second"] / ideal, "predicted": predicted}
        row |= {"limit": limit, "workers_fed": workers_fed(point.environments, step, CALL_SECONDS, planner)}
    return row


def _at_work(status: LiveStatus, workers: int) -> bool:
    return status.state == "running" and len(_rates(status)) == workers and all(_rates(status))


def _rates(status: LiveStatus) -> list[float]:
    """Steps a second of every worker since its account before."""
    return [role.values.get("steps_per_second", 0.0) for role in status.roles if role.kind == "rollout_worker"]


def table(rows: list[dict[str, Any]]) -> Any:
    """Measured rates beside the ideal and the prediction on paper; how busy the planner was, and its batches."""
    from rich import box
    from rich.table import Table

    shown = Table(title="m3pc bench scaling: environment steps a second", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("environments")
    columns = ("steps/s", "ideal", "of it", "paper", "limit", "busy", "could", "batch", "fill")
    for column in columns:
        shown.add_column(column, justify="right")
    for row in rows:
        ideal = ("", "", "", "")
        if "ideal" in row:
            ideal = (f"{row['ideal']:.0f}", f"{row['of_ideal']:.0%}", f"{row['predicted']:.1f}", row["limit"])
        shown.add_row(
            row["case"],
            f"{row['steps_per_second']:.1f}",
            *ideal,
            f"{row['planner_busy']:.0%}",
            f"{row['planner_could']:.0f}",
            f"{row['planner_batch_mean']:.1f}",
            f"{row['planner_batch_fill']:.0%}",
        )
    shown.caption = (
        "paper: predicted from the planner timed alone; busy: share of time the planner computed; could: decisions a "
        "second that it would make, computing all the time; batch, fill: mean rows of one, and of what was under way"
    )
    return shown


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """Measured steps a second of every slow point beside its ideal and its prediction."""
    from m3pc_ray.report.style import figure

    rows = [row for row in rows if "ideal" in row]
    with figure(path, width=7.0, height=3.6) as (axis,):
        places = range(len(rows))
        axis.bar(places, [row["steps_per_second"] for row in rows], width=0.6, color="#4477aa", label="measured")
        for name, colour, mark in (("ideal", "#228833", "_"), ("predicted", "#cc3311", "x")):
            axis.scatter(places, [row[name] for row in rows], color=colour, marker=mark, s=90, label=name, zorder=3)
        axis.set_xticks(list(places), [row["case"].replace(", ", "\n").replace(" on ", "\non ") for row in rows])
        axis.tick_params(axis="x", labelsize=7)
        axis.set_ylabel("environment steps a second")
        axis.legend()
