"""Time to quality: held-out errors per test-time mask against CPU-seconds, for every choice of the `cpu` preset.

Every candidate is the preset with one thing changed, trained on one thread for the same CPU-seconds; the learning rate
falls to 0 at the end of them. Errors of states and rewards are in units of the data's variance, of actions raw.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.model.precision import resolve_precision
from m3pc_ray.training.assemble import build_models
from m3pc_ray.training.btm_trainer import BTMTrainer, schedule_factor
from m3pc_ray.training.data import SegmentData
from m3pc_ray.training.validation import validation_errors
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.resolve import load

CANDIDATES: dict[str, dict[str, Any]] = {
    "preset": {},
    "AdamW 2e-3": {"pretrain.optimizer": "adamw"},
    "AdamW 5e-4, beta2 0.999": {
        "pretrain.optimizer": "adamw",
        "pretrain.learning_rate": 5e-4,
        "pretrain.beta2": 0.999,
    },
    "learning rate 1e-3": {"pretrain.learning_rate": 1e-3},
    "learning rate 4e-3": {"pretrain.learning_rate": 4e-3},
    "learning rate 8e-3": {"pretrain.learning_rate": 8e-3},
    "batch 128": {"pretrain.batch_size": 128},
    "batch 512": {"pretrain.batch_size": 512},
    "1 mask group": {"masks.groups": 1},
    "4 mask groups": {"masks.groups": 4},
    "random masks only": {"masks.test_mask_fraction": 0.0},
    "test masks only": {"masks.test_mask_fraction": 1.0},
    "predict changes of states": {"model.state_prediction": "change"},
    "causal encoder": {"model.encoder_attention": "causal"},
    "dropout 0.1": {"model.dropout": 0.1},
    "log-std up to 2": {"model.log_std_max": 2.0},
}
"""Name -> settings that differ from the preset."""
SHOWN = (
    ("action_error/return_conditioned", "action, RCBC"),
    ("states_error/1_ahead", "states 1 ahead"),
    ("states_error/4_ahead", "4 ahead"),
    ("rewards_error", "rewards"),
)
"""Errors in the table and the figure, with their names there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", action="append", metavar="REF", help="repeatable (default: bundled/hopper)")
    parser.add_argument("--budget", type=float, default=120.0, metavar="S", help="CPU-seconds each (default: 120)")
    parser.add_argument("--points", type=int, default=4, help="validations within the budget (default: 4)")
    parser.add_argument(
        "--candidate",
        action="append",
        metavar="NAME",
        help="repeatable (default: all): "
        + "; ".join(CANDIDATES)
        + "; or settings such as pretrain.learning_rate=4e-3,pretrain.batch_size=128",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, masks and batches (default: 0)")
    parser.add_argument("--figure", metavar="FILE", help="draw errors against CPU-seconds into this PNG")


def measure(arguments: argparse.Namespace, describe: Callable[[str], None]) -> list[dict[str, Any]]:
    """One row for every candidate, data set and validation. Raises UserError for a budget that is not positive."""
    if arguments.budget <= 0 or arguments.points < 1:
        raise UserError("--budget must be above 0 and --points at least 1")
    chosen = arguments.candidate or (list(CANDIDATES)[:2] if arguments.quick else list(CANDIDATES))
    changes = {name: settings_of(name) for name in chosen}
    budget = min(arguments.budget, 8.0) if arguments.quick else arguments.budget
    rows = []
    for reference in arguments.dataset or ["bundled/hopper"]:
        trajectories = load(reference)
        for name in chosen:
            describe(f"{trajectories.metadata.name}: {name}")
            settings = {"data.dataset": reference, "seed": arguments.seed, "device": arguments.device}
            config = with_settings(RunConfig(), settings | changes[name])
            for row in train(config, trajectories, budget, arguments.points):
                rows.append({"case": f"{trajectories.metadata.name}: {name}", "dataset": reference, **row})
    return rows


def settings_of(candidate: str) -> dict[str, Any]:
    """Settings of a candidate by its name, or as they stand in it: `name=value,...`. Raises UserError for neither."""
    if candidate in CANDIDATES:
        return CANDIDATES[candidate]
    pairs = [part.partition("=") for part in candidate.split(",")]
    if not all(separator for _, separator, _ in pairs):
        raise UserError(f"--candidate is {candidate!r}; it must be one of {', '.join(CANDIDATES)}, or name=value,...")
    settings = {name.strip(): value.strip() for name, _, value in pairs}
    with_settings(RunConfig(), settings)  # so that a mistake in the last candidate costs no training
    return settings


def train(config: RunConfig, trajectories: Trajectories, budget: float, points: int) -> list[dict[str, Any]]:
    """Trains the trajectory model for `budget` CPU-seconds; a row of errors after each `points`-th of them."""
    training, held_out = trajectories.split(config.data.validation_fraction, config.seed)
    torch.manual_seed(config.seed)
    models = build_models(config, trajectories)
    device = models.model.modality_embedding.device

    def segments(part: Trajectories) -> SegmentData:
        scale, length = config.data.return_scale, config.model.segment_length
        bounds = (models.action_low, models.action_high)
        return SegmentData(part, models.statistics, scale, models.time_limit, length, *bounds, device)

    data, validation = segments(training), segments(held_out)
    pretrain = config.pretrain
    dtype = resolve_precision(pretrain.precision, device)
    trainer = BTMTrainer(models.model, pretrain, config.masks, dtype, config.seed)
    rng = np.random.default_rng([config.seed, 2])
    rows: list[dict[str, Any]] = []
    spent, steps = 0.0, 0
    while len(rows) < points:
        before = time.process_time()
        tokens, valid = data.sample(rng, pretrain.batch_size)
        progress = min(1.0, spent / budget)
        factor = schedule_factor(pretrain.schedule, pretrain.warmup_steps, steps, progress)
        trainer.update(tokens, valid, factor)
        steps += 1
        spent += time.process_time() - before
        if spent >= budget * (len(rows) + 1) / points:
            errors = validation_errors(models.model, validation, config.planner.context_length)
            rows.append({"cpu_s": spent, "steps": steps, **errors})
    return rows


def table(rows: list[dict[str, Any]]) -> Any:
    """The errors at the end of the budget."""
    from rich.table import Table

    shown = Table(title="m3pc bench learning: held-out errors at the end of the budget")
    shown.add_column("case", min_width=24)
    for column in ("CPU s", "steps", *(title for _, title in SHOWN)):
        shown.add_column(column, justify="right", min_width=6)
    last = {row["case"]: row for row in rows}
    for case, row in last.items():
        errors = (f"{row[name]:.4f}" for name, _ in SHOWN)
        shown.add_row(case, f"{row['cpu_s']:.0f}", str(row["steps"]), *errors)
    return shown


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """A column for each data set, a row for each error, a line for each candidate."""
    from m3pc_ray.report.style import figure

    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    names = list(dict.fromkeys(row["case"].partition(": ")[2] for row in rows))
    with figure(path, len(SHOWN), len(datasets), width=5.5 * len(datasets), height=2.6 * len(SHOWN)) as axes:
        for place, axis in enumerate(axes):
            (key, title), dataset = SHOWN[place // len(datasets)], datasets[place % len(datasets)]
            for index, name in enumerate(names):
                line = [row for row in rows if row["dataset"] == dataset and row["case"].endswith(f": {name}")]
                style = {"color": "black", "linewidth": 2.0} if name == "preset" else {"color": f"C{index % 10}"}
                marker = "o" if index < 10 else "s"
                axis.plot(
                    [row["cpu_s"] for row in line],
                    [row[key] for row in line],
                    label=name,
                    marker=marker,
                    markersize=3,
                    **style,
                )
            axis.set_yscale("log")
            axis.set_ylabel(title)
            if place < len(datasets):
                axis.set_title(next(row["case"].partition(": ")[0] for row in rows if row["dataset"] == dataset))
            if place >= len(axes) - len(datasets):
                axis.set_xlabel("CPU-seconds")
        axes[0].legend(ncols=2, fontsize=6)
