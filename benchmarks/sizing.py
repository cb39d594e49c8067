"""How long a run takes with W workers and P planners: the model of benchmarks/planner_feed.py, put into a table.

A planner's time for a batch of n environments, a + b n, is measured here (or on --device), of a run of your own with
--run RUN, else of an untrained Hopper model of the default size; or it is given, as measured elsewhere:

    m3pc bench sizing --run runs/hopper --step-ms 20 --workers 16 64 --planners 1 2
    m3pc bench sizing --fixed-ms 2.9 --row-ms 4.31 --environments 16

Nothing is run: what was not measured on a cluster like yours is an extrapolation. The last column is what the learner
may take for the updates of one step before it becomes the limit.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from m3pc_ray.errors import UserError
from m3pc_ray.online.roles import make_plan_service
from m3pc_ray.training.run_folder import RunFolder

from .planner_feed import ROWS, PlannerTime, fit, measure_planner, predicted_rate, workers_fed
from .scaling import CALL_SECONDS, PLANNER_SECONDS, Point, make_run

HOPPER = Point("N 64", 1, 4, "hopper")
"""Whose planner is timed where no run is named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", metavar="RUN", help="time this run's planner (default: an untrained Hopper model's)")
    parser.add_argument("--fixed-ms", type=float, metavar="A", help="a planner's time for a batch, whatever its size")
    parser.add_argument("--row-ms", type=float, metavar="B", help="... and for each environment of it")
    parser.add_argument("--step-ms", type=float, default=20.0, metavar="S", help="a simulator's step (default: 20)")
    parser.add_argument("--environments", type=int, default=4, metavar="E", help="of a worker (default: 4)")
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 16, 64], metavar="W", help="(default: 4 16 64)")
    parser.add_argument("--planners", type=int, nargs="+", default=[1, 2, 4], metavar="P", help="(default: 1 2 4)")
    parser.add_argument("--steps", type=int, default=1_000_000, metavar="N", help="of the run (default: 1000000)")


def measure(arguments: argparse.Namespace, describe: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each number of workers and of planners.

    Raises:
        UserError: a number that is not positive, one of the planner's times without the other, no such run.
    """
    _check(arguments)
    if arguments.fixed_ms is not None:
        planner = PlannerTime(arguments.fixed_ms / 1000.0, arguments.row_ms / 1000.0)
    else:
        describe("planner")
        planner = time_planner(arguments.run, arguments.device, 1.0 if arguments.quick else PLANNER_SECONDS)
    step = arguments.step_ms / 1000.0
    rows = []
    for workers in arguments.workers:
        for planners in arguments.planners:
            if planners <= workers:
                rate, limit = cluster_rate(workers, planners, arguments.environments, step, planner)
                rows.append(
                    {
                        "workers": workers,
                        "planners": planners,
                        "environments": workers * arguments.environments,
                        "steps_per_second": rate,
                        "limit": limit,
                        "hours": arguments.steps / rate / 3600.0,
                        "steps": arguments.steps,
                        "learner_ms": 1000.0 / rate,
                        "workers_fed": workers_fed(arguments.environments, step, CALL_SECONDS, planner),
                        "planner_fixed_ms": 1000.0 * planner.fixed,
                        "planner_per_row_ms": 1000.0 * planner.per_row,
                    }
                )
    return rows


def cluster_rate(
    workers: int, planners: int, environments: int, step_seconds: float, planner: PlannerTime
) -> tuple[float, str]:
    """Environment steps a second of workers that are spread over planners, and what limits the fullest of these."""
    parts = [len(range(number, workers, planners)) for number in range(planners)]
    rates = [predicted_rate(part, environments, step_seconds, CALL_SECONDS, planner) for part in parts]
    return sum(rate for rate, _ in rates), rates[0][1]


def time_planner(path: str | None, device: str, seconds: float) -> PlannerTime:
    """The exploring planner of a run, or of an untrained Hopper model, timed in this process."""
    with tempfile.TemporaryDirectory(prefix="m3pc-sizing-") as folder:
        run = RunFolder.open(path) if path is not None else make_run(Path(folder), HOPPER)
        return fit(ROWS, measure_planner(make_plan_service(run, device), seconds))


def _check(arguments: argparse.Namespace) -> None:
    numbers: dict[str, list[float]] = {
        "--step-ms": [arguments.step_ms],
        "--environments": [arguments.environments],
        "--workers": arguments.workers,
        "--planners": arguments.planners,
        "--steps": [arguments.steps],
    }
    if (arguments.fixed_ms is None) != (arguments.row_ms is None):
        raise UserError("--fixed-ms and --row-ms belong together: a batch of n takes the first plus n times the second")
    if arguments.fixed_ms is not None:
        if arguments.run is not None:
            raise UserError("--run is timed; leave out --fixed-ms and --row-ms, or --run")
        if arguments.fixed_ms < 0:
            raise UserError(f"--fixed-ms must not be below 0, not {arguments.fixed_ms:g}")
        numbers["--row-ms"] = [arguments.row_ms]
    for name, values in numbers.items():
        for value in values:
            if value <= 0:
                raise UserError(f"{name} must be above 0, not {value:g}")
    if min(arguments.planners) > max(arguments.workers):
        raise UserError(f"--planners {min(arguments.planners)}: more than --workers {max(arguments.workers)}")


def table(rows: list[dict[str, Any]]) -> Any:
    """Steps a second and hours, with what limits them."""
    from rich import box
    from rich.table import Table

    first = rows[0]
    shown = Table(title="m3pc bench sizing: predicted", box=box.SIMPLE_HEAD, pad_edge=False)
    columns = ("workers", "planners", "environments", "steps/s", "limit", f"hours for {first['steps']:,}", "learner")
    for column in columns:
        shown.add_column(column, justify="right")
    for row in rows:
        shown.add_row(
            f"{row['workers']}",
            f"{row['planners']}",
            f"{row['environments']}",
            f"{row['steps_per_second']:.0f}",
            row["limit"],
            f"{row['hours']:.1f}",
            f"{row['learner_ms']:.2g} ms",
        )
    batch = f"{first['planner_fixed_ms']:.3g} + {first['planner_per_row_ms']:.3g} n ms"
    shown.caption = (
        f"a planner computes n environments in {batch} and feeds {first['workers_fed']:.0f} workers; "
        "learner: what it may take for the updates of a step"
    )
    return shown
