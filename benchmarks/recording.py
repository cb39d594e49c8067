"""What recording decisions costs, and how exactly they are computed again, on the trained weights of a run.

Cost: planning and stepping as in `m3pc finetune --serial`, every fragment into a synced log, without records and with
them in turn. Exactness: decisions at random steps of the run's best data, planned for together; each is then computed
again among as many copies of itself, as `m3pc explain` does, and alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from m3pc_ray.config import Precision
from m3pc_ray.online.collector import Collector
from m3pc_ray.online.exploration import Task, exploring_planner, make_collector
from m3pc_ray.online.plan_service import PlanService
from m3pc_ray.online.replay.replay_log import ReplayLog
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.training.assemble import Models, load_models
from m3pc_ray.training.pretraining import load_data
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.training.utility_units import BEST_SHARE, best_share, data_context

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
STEPS = 100
"""Environment steps between two readings of the clock."""
DECISIONS = 16
"""Planned for together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--repetitions", type=int, default=20, help=f"of {STEPS} steps each (default: 20; quick: 5)")


def measure(arguments: argparse.Namespace, describe: Callable[[str], None]) -> list[dict[str, Any]]:
    """Rows of the cost, then a row for every precision and company."""
    models = load_models(RunFolder.open(arguments.run), device=arguments.device)
    describe("collecting")
    rows = _costs(models, 5 if arguments.quick else arguments.repetitions)
    for precision in PRECISIONS:
        describe(precision)
        rows += _exactness(models, precision)
    return rows


class _Collecting:
    """One worker with the run's settings, writing a log; timed in CPU seconds, of which other processes take none."""

    def __init__(self, models: Models, record: bool, folder: Path) -> None:
        config = replace(models.config, online=replace(models.config.online, record_decisions=record))
        self.service = PlanService(replace(models, config=config))
        model = models.model
        task = Task(models.environment_id, models.time_limit, model.observation_dim, model.action_dim)
        self.collector: Collector = make_collector(config, task, 0, 0)
        self.log = ReplayLog(folder, model.observation_dim, model.action_dim)
        list(self.log.restore())  # nothing yet
        self.rates: list[float] = []

    def collect(self) -> None:
        started = time.process_time()
        self.collector.tickets += STEPS
        while (context := self.collector.request()) is not None:
            answer = self.service.plan(context)
            self.collector.act(answer.actions, answer.version, answer.records)
        self.collector.flush()
        self.log.append(self.collector.take_fragments())
        self.log.sync()
        self.rates.append(STEPS / (time.process_time() - started))


def _costs(models: Models, repetitions: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        ways = {name: _Collecting(models, name == "on", Path(folder) / name) for name in ("off", "on")}
        for _ in range(repetitions + 1):
            for way in ways.values():
                way.collect()
        rows = []
        for name, way in ways.items():
            way.log.close()
            steps_per_cpu_second = statistics.median(way.rates[1:])  # the first one warms up
            size = way.log.num_bytes / way.collector.steps
            rows.append(
                {"case": f"recording {name}", "steps_per_cpu_second": steps_per_cpu_second, "log_bytes_per_step": size}
            )
        ratios = [on / off for off, on in zip(ways["off"].rates[1:], ways["on"].rates[1:], strict=True)]
        rows[1]["ratio"] = statistics.median(ratios)
        return rows


def _exactness(models: Models, precision: Precision) -> list[dict[str, Any]]:
    settings = replace(exploring_planner(models.config), precision=precision)
    critic = models.critic if settings.guide == "critic" else None
    device = models.model.modality_embedding.device
    planner = ForwardPlanner(models.model, critic, settings, models.config.critic.discount, models.prompt, device)
    best = best_share(load_data(models.config), BEST_SHARE)
    context = data_context(models, best, settings.context_length, models.config.seed).select(np.arange(DECISIONS))
    together = planner.plan(context, sample=True, record=True).record
    assert together is not None
    rows = []
    for company in ("as many copies", "alone"):
        differences, choices = [], []
        for row in range(len(context)):
            among, place = (int(together.batch_rows[row]), int(together.batch_row[row]))
            if company == "alone":
                among, place = 1, 0
            again = planner.plan(context.select([row] * among), sample=True, record=True).record
            assert again is not None
            differences.append(float(np.abs(again.utilities[place] - together.utilities[row]).max()))
            choices.append(again.chosen[place] == together.chosen[row])
        rows.append(
            {
                "case": f"{precision}, {company}",
                "decisions": len(context),
                "batch_rows": int(together.batch_rows.max()),
                "largest_difference": max(differences),
                "bit_equal": float(np.mean(np.array(differences) == 0.0)),
                "same_choice": float(np.mean(choices)),
                "largest_utility": float(np.abs(together.utilities).max()),
                "utility_spread": float(together.utilities.std(axis=1).mean()),
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> Any:
    """Costs above, exactness below."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table

    def empty(title: str, *columns: str) -> Table:
        made = Table("case", title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            made.add_column(column, justify="right", no_wrap=True)
        return made

    costs = empty("m3pc bench recording: cost", "steps/CPU-s", "ratio", "bytes/step")
    exactness = empty("decisions computed again", "largest difference", "bit-equal", "same choice")
    for row in rows:
        if "steps_per_cpu_second" in row:
            ratio = f"{row['ratio']:.3f}" if "ratio" in row else ""
            costs.add_row(row["case"], f"{row['steps_per_cpu_second']:.1f}", ratio, f"{row['log_bytes_per_step']:.0f}")
        else:
            shares = (f"{row[name]:.0%}" for name in ("bit_equal", "same_choice"))
            exactness.add_row(row["case"], f"{row['largest_difference']:.1e}", *shares)
    return Group(costs, exactness)
