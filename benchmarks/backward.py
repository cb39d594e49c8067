"""Time of a decision: backward planning and its baselines against forward planning, with the same model.

Random weights of Hopper's size, mid-episode. One whole goal in the window's last step, or one that fixes two dimensions
only and is completed by the model (`backward.completion_rounds`). Forward planning draws N candidates (`fast` engine),
and without a guide none. All ways of deciding are timed in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from m3pc_ray.config import BackwardConfig, Guide, PlannerConfig
from m3pc_ray.errors import UserError
from m3pc_ray.goals.goal_window import GoalWindow
from m3pc_ray.planning.backward import BackwardPlanner, GoalPlanner
from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.planning.planner import ForwardPlanner

from .measuring import in_turn
from .planner import SEGMENT_LENGTH, make_context, make_planner
from .synthetic import OBSERVATION_DIM

FIXED = 2
"""Dimensions that a partial goal fixes: what a built-in task fixes of a state."""
REFERENCES = ("forward return", "forward critic")
"""What backward planning is compared with."""
PARTIAL = "backward, partial goal"
WAYS: dict[str, GoalPlanner] = {
    "backward": "backward",
    PARTIAL: "backward",
    "goal_mask": "goal_mask",
    "bc": "bc",
}
GUIDES: tuple[Guide, ...] = ("none", "return", "critic")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--width", type=int, default=128, help="the model's width (default: 128)")
    parser.add_argument("--candidates", type=int, default=128, metavar="N", help="of a forward plan (default: 128)")
    parser.add_argument(
        "--environments", type=int, nargs="+", default=[1, 8], metavar="B", help="planned for together (default: 1 8)"
    )
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="of all of them (default: float32)"
    )
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="for each number of environments (default: 20; quick: 4)"
    )


def measure(arguments: argparse.Namespace, describe: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for every number of environments and way of deciding."""
    if min(arguments.environments) < 1:
        raise UserError(f"--environments is {min(arguments.environments)}; at least 1 is needed")
    seconds = arguments.seconds if arguments.seconds is not None else 4.0 if arguments.quick else 20.0
    settings = PlannerConfig(num_candidates=arguments.candidates, precision=arguments.precision)
    backward_settings = BackwardConfig(context_length=settings.context_length, precision=arguments.precision)
    forward = make_planner(arguments.width, settings, arguments.device)
    backward = BackwardPlanner(forward.model, backward_settings, arguments.device)
    rows = []
    for environments in arguments.environments:
        describe(f"B {environments}")
        context = make_context(environments, settings.context_length)
        measured = in_turn(
            {
                name: (decide, environments)
                for name, decide in (_backward(backward, context) | _forward(forward, context)).items()
            },
            seconds,
            arguments.device,
        )
        for name, found in measured.items():
            row = {
                "case": f"{name}, B {environments}",
                "planner": name,
                "environments": environments,
                "width": arguments.width,
                "candidates": arguments.candidates,
                "precision": arguments.precision,
                "decision_s": found.seconds,
                "spread": found.spread,
                "runs": found.runs,
                "multiply_adds": found.operations / 2,
            }
            for reference in REFERENCES:
                row[f"over_{reference.replace(' ', '_')}"] = found.seconds / measured[reference].seconds
            rows.append(row)
    return rows


def make_goals(environments: int, partial: bool) -> GoalWindow:
    """A random goal of every environment in the window's last step; partial: all but `FIXED` dimensions free."""
    states = np.random.default_rng(1).normal(size=(environments, 1, OBSERVATION_DIM)).astype(np.float32)
    if partial:
        states[:, :, FIXED:] = np.nan
    return GoalWindow(states, np.full((environments, 1), SEGMENT_LENGTH - 1))


def _backward(planner: BackwardPlanner, context: PlanningContext) -> dict[str, Callable[[], object]]:
    def way(name: str) -> Callable[[], object]:
        goals = make_goals(len(context), partial=name == PARTIAL)
        return lambda: planner.plan(context, goals, WAYS[name])

    return {name: way(name) for name in WAYS}


def _forward(planner: ForwardPlanner, context: PlanningContext) -> dict[str, Callable[[], object]]:
    def way(guide: Guide) -> Callable[[], object]:
        return lambda: planner.plan(context, guide=guide)

    return {f"forward {guide}": way(guide) for guide in GUIDES}


def table(rows: list[dict[str, Any]]) -> Any:
    """Milliseconds and multiply-adds a decision, and the times over those of a forward plan."""
    from rich import box
    from rich.table import Table

    first = rows[0]
    shown = Table(
        title=f"m3pc bench backward: width {first['width']}, N {first['candidates']}, {first['precision']}, medians",
        caption="of a decision; work: multiply-adds; / return, critic: share of a forward plan",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("B", "planner", "ms", "work", *(f"/ {reference.split()[1]}" for reference in REFERENCES)):
        shown.add_column(column, justify="left" if column == "planner" else "right", no_wrap=True)
    for row in rows:
        shown.add_row(
            str(row["environments"]),
            row["planner"],
            f"{1e3 * row['decision_s']:.3g} ±{100 * row['spread']:.0f}%",
            f"{row['multiply_adds'] / 1e6:.3g} M",
            *(f"{row['over_' + reference.replace(' ', '_')]:.3g}" for reference in REFERENCES),
        )
    return shown
