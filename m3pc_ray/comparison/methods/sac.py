"""Soft actor-critic: plain, from nothing, and RLPD, with half of every batch from the data; the learner is `sac`."""

from __future__ import annotations

from m3pc_ray.comparison.method import Assignment, Record, Report
from m3pc_ray.sac.settings import SacSettings
from m3pc_ray.sac.trainer import SacTrainer
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.trajectories.episodes import Trajectories

LEARNING_STARTS = 1_000
"""Environment steps with random actions: RLPD's and SAC's 5,000 and more are for runs of 250,000 steps and up, and
would be half of the steps here."""


def sac(assignment: Assignment, record: Record, report: Report) -> None:
    """Plain SAC, without the data; see `comparison.method.Train`."""
    settings = SacSettings(learning_starts=LEARNING_STARTS, updates_per_step=assignment.budget["updates_per_step"])
    _train(settings, None, assignment, record, report)


def rlpd(assignment: Assignment, record: Record, report: Report) -> None:
    """RLPD; see `comparison.method.Train`."""
    settings = SacSettings.rlpd(learning_starts=LEARNING_STARTS, updates_per_step=assignment.budget["updates_per_step"])
    _train(settings, assignment.trajectories, assignment, record, report)


def _train(
    settings: SacSettings, offline: Trajectories | None, assignment: Assignment, record: Record, report: Report
) -> None:
    folder, threads = assignment.folder / "sac", assignment.threads
    trainer = SacTrainer(assignment.environment_id, assignment.seed, settings, offline, folder, threads)
    with StopRequest() as stop:

        def tell(steps: int, _recent_return: float) -> None:
            report("environment step", steps, assignment.online_steps)
            stop.check()

        for point in assignment.points:
            if trainer.steps > point:  # recorded before an interruption
                continue
            if trainer.steps < point:
                trainer.learn(point, tell)
                trainer.save()
            record(point, trainer.updates, trainer.policy().unit)
            stop.check()
