"""Trains what is missing of a comparison, plays its episodes, keeps the cells; what is finished is not made again."""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console

from m3pc_ray.baselines.feedforward_agent import FeedforwardAgent, Policy
from m3pc_ray.comparison.accounting import Account
from m3pc_ray.comparison.folder import CellKey, ComparisonFolder
from m3pc_ray.comparison.method import OFFLINE, Assignment
from m3pc_ray.comparison.plan import Plan, Training, as_json, check_data
from m3pc_ray.comparison.results import DIGITS, measure
from m3pc_ray.config import EvaluationConfig
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.evaluation.evaluate import Acting, earned, run_episodes
from m3pc_ray.training.run_folder import lock_file, package_versions
from m3pc_ray.training.shared_work import work_through
from m3pc_ray.trajectories.episodes import DatasetMetadata, Trajectories
from m3pc_ray.trajectories.resolve import identity, load

LINE_SECONDS = 20.0
"""Between two lines of progress where the output is a file."""
PARALLEL_ENVIRONMENTS = 10
"""Environments stepped together while episodes are played."""


@functools.lru_cache(maxsize=1)
def _load(reference: str, _files: tuple[tuple[str, int, int, int, int], ...]) -> Trajectories:
    return load(reference)


def conduct(folder: ComparisonFolder, plan: Plan, console: Console) -> list[str]:
    """Makes what is missing of the plan; returns the names of trainings that other processes are at.

    Raises UserError for what a method cannot do, KeyboardInterrupt on Ctrl-C; both keep what is done.
    """
    trainings = plan.trainings()
    waiting = [each for each in trainings if each.missing(folder)]
    console.print(f"{len(trainings)} trainings, {len(trainings) - len(waiting)} of them finished", highlight=False)

    def attempt(training: Training, number: int, among: Sequence[Training]) -> None:
        lock = folder.locks / f"{training.name}.lock"
        with lock_file(lock, f"{training.name}: another process is at it"):
            if not training.missing(folder):
                return  # another process has finished it just now
            console.print(f"training {number} of {len(among)}: {training.name}", highlight=False)
            Conductor(folder, training, console).train()

    busy = work_through(waiting, attempt, lambda training: bool(training.missing(folder)), console)
    return [training.name for training in busy]


class Conductor:
    """One training: calls the method, plays its episodes, keeps account.

    Args:
        folder: of the comparison.
        training: what to make; nobody else is at it.
        console: told what is earned and how far training is.
    """

    def __init__(self, folder: ComparisonFolder, training: Training, console: Console) -> None:
        self.folder, self.training, self.console = folder, training, console
        self.work = folder.work / training.dataset / f"{training.method.name}-s{training.seed}"
        self._line_at = time.monotonic()
        self._status = console.status(training.name) if console.is_terminal else None

    def train(self) -> None:
        """From wherever the method stood to its last point. Raises what the method raises."""
        training, plan = self.training, self.training.plan
        train = training.method.load()
        reference = plan.datasets[training.dataset]
        self.trajectories = _load(reference, tuple(identity(reference)))
        check_data(self.folder, training.dataset, self.trajectories)
        self.work.mkdir(parents=True, exist_ok=True)
        self.account = Account(self.work / "account.json")
        assignment = Assignment(
            dataset=training.dataset,
            reference=reference,
            trajectories=self.trajectories,
            seed=training.seed,
            folder=self.work,
            budget=plan.budgets[training.method.name],
            points=training.points,
            threads=plan.threads,
            settings=plan.settings,
        )
        threads = torch.get_num_threads()
        if self._status is not None:
            self._status.start()
        try:
            torch.set_num_threads(plan.threads)
            self._open_next()
            train(assignment, self.record, self.report)
        finally:
            self.account.close()
            torch.set_num_threads(threads)
            if self._status is not None:
                self._status.stop()
        missing = training.missing(self.folder)
        if missing:
            raise RuntimeError(f"{training.name}: the method ended without {missing[0].file}")

    def record(
        self,
        point: int,
        updates: int,
        policy: Policy | Acting,
        row: str = "",
        environment_steps: int | None = None,
    ) -> Mapping[str, Any]:
        """See `comparison.method.Record`."""
        self.account.close()
        rows = self.training.method.recorded_at(point)
        row = row or rows[0]
        if row not in rows or point not in (OFFLINE, *self.training.points):
            raise ValueError(f"{self.training.name}: no cell is asked for at {point} as {row!r}")
        key = CellKey(self.training.dataset, row, self.training.seed, point)
        if self.folder.has(key):
            values = self.folder.find(key)
        else:
            taken = point if environment_steps is None else environment_steps
            values = self._facts(key) | {"updates": updates, "environment_steps": taken} | self._play(policy)
            self.folder.add(key, values)
            self._tell(key, values)
        self._open_next()
        return values

    def report(self, phase: str, done: int, total: int) -> None:
        """See `comparison.method.Report`."""
        self.account.note()
        text = f"{self.training.name}: {phase} {done:,} of {total:,}"
        if self._status is not None:
            self._status.update(text)
        elif time.monotonic() - self._line_at > LINE_SECONDS:
            self._line_at = time.monotonic()
            self.console.print(text, highlight=False)

    def _open_next(self) -> None:
        """Time from now on belongs to the first point that lacks a cell."""
        missing = self.training.missing(self.folder)
        if missing:
            self.account.open(missing[0].point)

    def _play(self, policy: Policy | Acting) -> dict[str, Any]:
        metadata = self.trajectories.metadata
        threads = torch.get_num_threads()
        started = time.monotonic()
        try:
            torch.set_num_threads(self.training.plan.threads)
            values = play(policy, metadata, self.training.plan.evaluation)
        finally:
            torch.set_num_threads(threads)
        return {**values, "evaluation_seconds": time.monotonic() - started}

    def _facts(self, key: CellKey) -> dict[str, Any]:
        plan, method = self.training.plan, self.training.method
        spent = [self.account.spent(point) for point in (OFFLINE, *self.training.points) if point <= key.point]
        wall, cpu = spent[-1]
        return {
            "environment": self.trajectories.metadata.environment_id,
            "method": method.name,
            "implementation": method.implementation,
            "evaluation_seed": plan.evaluation.seed,
            "wall_seconds": wall,
            "cpu_seconds": cpu,
            "wall_seconds_total": sum(each[0] for each in spent),
            "cpu_seconds_total": sum(each[1] for each in spent),
            "threads": plan.threads,
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "processor": processor(),
            "budget": as_json(plan.budgets[method.name]),
            "settings": as_json(plan.settings),
            "versions": as_json(package_versions()),
        }

    def _tell(self, key: CellKey, values: Mapping[str, Any]) -> None:
        kind = measure({**values, "environment": self.trajectories.metadata.environment_id})
        held = "score" if kind == "score" else "return"
        label = self.training.method.rows[key.row]
        stage = "offline" if key.point == OFFLINE else f"after {key.point:,} steps"
        digits = max(1, DIGITS[kind])
        earned_text = f"{kind} {values[f'{held}_mean']:.{digits}f} ± {values[f'{held}_sem']:.{digits}f}"
        self.console.print(
            f"{key.dataset}, {label}, seed {key.seed}, {stage}: {earned_text}, "
            f"{self.account.spent(key.point)[1]:.0f} CPU s",
            highlight=False,
        )


def play(policy: Policy | Acting, metadata: DatasetMetadata, evaluation: EvaluationConfig) -> dict[str, Any]:
    """What a policy earns: the keys of `evaluation.evaluate.earned` and the episodes' lengths.

    Every method goes through here: the same environments, resets and seeds, deterministic.
    """
    agent = cast(Acting, policy) if hasattr(policy, "plan") else FeedforwardAgent(policy, metadata)
    count = min(PARALLEL_ENVIRONMENTS, evaluation.episodes)
    with EnvironmentGroup(metadata.environment_id, count) as group:
        episodes = run_episodes(agent, group, replace(evaluation, deterministic=True))
    row = earned(episodes.returns, metadata)
    kept = ("episodes", "score_mean", "score_sem", "return_mean", "return_sem", "scores", "returns")
    return {**{name: row[name] for name in kept}, "lengths": episodes.lengths.tolist()}


def processor() -> str:
    """Name of the machine's processor, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
