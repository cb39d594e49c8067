"""What a decision's price buys: score and decisions per second of a trained run, over N candidates and horizon h.

Plays the same episodes for every pair; the first row is the single mask, which plans nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from m3pc_ray.agent import Agent
from m3pc_ray.config import Guide
from m3pc_ray.evaluation.evaluate import evaluate_planners
from m3pc_ray.training.assemble import load_models
from m3pc_ray.training.run_folder import RunFolder

CANDIDATES, HORIZONS = (16, 32, 64, 128, 256, 625), (1, 2, 4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--episodes", type=int, default=10, help="episodes for every pair (default: 10)")
    parser.add_argument("--seed", type=int, default=1000, help="of the first episode (default: 1000)")
    parser.add_argument(
        "--candidates", type=int, nargs="+", default=CANDIDATES, metavar="N", help=f"(default: {CANDIDATES})"
    )
    parser.add_argument("--horizons", type=int, nargs="+", default=HORIZONS, metavar="H", help=f"(default: {HORIZONS})")
    parser.add_argument("--guide", choices=("return", "critic"), default="critic", help="(default: critic)")
    parser.add_argument("--figure", metavar="FILE", help="draw scores against decisions per second into this PNG")


def measure(arguments: argparse.Namespace, describe: Callable[[str], None]) -> list[dict[str, Any]]:
    """One row of `m3pc evaluate` for the single mask and for every (N, h)."""
    run = RunFolder.open(arguments.run)
    models = load_models(run, device=arguments.device)
    evaluation = replace(models.config.evaluation, episodes=arguments.episodes, seed=arguments.seed)
    pairs: list[tuple[int, int]] = [(0, 0)]
    if arguments.quick:
        pairs += [(16, 1)]
        evaluation = replace(evaluation, episodes=1)
    else:
        pairs += [(count, horizon) for horizon in arguments.horizons for count in arguments.candidates]
    rows = []
    for count, horizon in pairs:
        guide: Guide = arguments.guide if count else "none"
        case = f"N {count} h {horizon}" if count else "single mask"
        describe(case)
        settings = replace(models.config.planner, num_candidates=max(1, count), horizon=max(1, horizon))
        agent = Agent.from_models(models, guide, config=settings)
        (row,) = evaluate_planners(agent, [guide], evaluation)
        rows.append({"case": case, "candidates": count, "horizon_scored": horizon, **row})
    return rows


def table(rows: list[dict[str, Any]]) -> Any:
    """Scores and speeds."""
    from rich.table import Table

    shown = Table(title="m3pc bench budget")
    shown.add_column("case")
    for column in ("score", "±", "min", "decisions/s"):
        shown.add_column(column, justify="right")
    for row in rows:
        values = (f"{row[name]:.1f}" for name in ("score_mean", "score_sem", "score_min", "decisions_per_s"))
        shown.add_row(row["case"], *values)
    return shown


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """A line for each horizon, N along it."""
    from m3pc_ray.report.style import figure

    with figure(path, width=6.0, height=4.0) as (axis,):
        alone = rows[0]
        axis.axhline(alone["score_mean"], color="#777777", linestyle="--", label="single mask")
        for horizon in dict.fromkeys(row["horizon_scored"] for row in rows[1:]):
            line = [row for row in rows[1:] if row["horizon_scored"] == horizon]
            speed, score = [row["decisions_per_s"] for row in line], [row["score_mean"] for row in line]
            axis.errorbar(
                speed, score, yerr=[row["score_sem"] for row in line], marker="o", capsize=2, label=f"h = {horizon}"
            )
            for x, y, row in zip(speed, score, line, strict=True):
                axis.annotate(str(row["candidates"]), (x, y), textcoords="offset points", xytext=(4, 4), fontsize=7)
        axis.set_xscale("log")
        axis.set_xlabel("decisions per second")
        axis.set_ylabel("normalised score")
        axis.set_title("numbers: candidates N")
        axis.legend()
