"""What the number format of planning changes on trained weights: utilities, the chosen action and, if asked, the score.

Decisions at random steps of the best episodes of the run's data; differences are to the oracle, which decodes every
token in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from m3pc_ray.agent import Agent
from m3pc_ray.config import Guide, Precision
from m3pc_ray.evaluation.evaluate import evaluate_planners
from m3pc_ray.planning.plan import PlanDetails
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.training.assemble import load_models
from m3pc_ray.training.pretraining import load_data
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.training.utility_units import BEST_SHARE, best_share, data_context

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--episodes", type=int, default=0, help="also play so many for every row (default: 0)")
    parser.add_argument("--seed", type=int, default=1000, help="of the first episode (default: 1000)")


def measure(arguments: argparse.Namespace, describe: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for every guide that the run has and every precision."""
    models = load_models(RunFolder.open(arguments.run), device=arguments.device)
    config, device = models.config, torch.device(arguments.device)
    critic = models.critic if models.critic_updates else None
    guides: tuple[Guide, ...] = ("critic", "return") if critic is not None else ("return",)
    best = best_share(load_data(config), BEST_SHARE)
    context = data_context(models, best, config.planner.context_length, config.seed)
    evaluation = replace(config.evaluation, episodes=1 if arguments.quick else arguments.episodes, seed=arguments.seed)

    def decide(guide: Guide, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
        planner_settings = replace(config.planner, guide=guide, **settings)
        planner = ForwardPlanner(models.model, critic, planner_settings, config.critic.discount, models.prompt, device)
        plan = planner.plan(context, details=True)
        assert isinstance(plan.details, PlanDetails)  # asked for, with a guide
        return plan.actions, plan.details.utilities

    rows = []
    for guide in guides:
        describe(f"{guide}: oracle")
        actions, utilities = decide(guide, engine="plain")
        for precision in PRECISIONS:
            describe(f"{guide}: {precision}")
            own_actions, own_utilities = decide(guide, engine="fast", precision=precision)
            correlations = [np.corrcoef(pair)[0, 1] for pair in zip(utilities, own_utilities, strict=True)]
            row = {
                "case": f"{guide} {precision}",
                "action_difference_rms": float(np.sqrt(np.square(own_actions - actions).mean())),
                "action_difference_max": float(np.abs(own_actions - actions).max()),
                "utility_correlation_mean": float(np.mean(correlations)),
                "utility_correlation_min": float(np.min(correlations)),
            }
            if evaluation.episodes:
                settings = replace(config.planner, guide=guide, precision=precision)
                row |= evaluate_planners(Agent.from_models(models, guide, config=settings), [guide], evaluation)[0]
            rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> Any:
    """Differences to the oracle, and scores where episodes were played."""
    from rich.table import Table

    shown = Table(title="m3pc bench precision: against the oracle, float32")
    for column in ("case", "action, rms", "largest", "correlation", "lowest", "score"):
        shown.add_column(column, justify="left" if column == "case" else "right")
    for row in rows:
        score = f"{row['score_mean']:.1f} ± {row['score_sem']:.1f}" if "score_mean" in row else ""
        shown.add_row(
            row["case"],
            f"{row['action_difference_rms']:.1e}",
            f"{row['action_difference_max']:.1e}",
            f"{row['utility_correlation_mean']:.4f}",
            f"{row['utility_correlation_min']:.4f}",
            score,
        )
    return shown
