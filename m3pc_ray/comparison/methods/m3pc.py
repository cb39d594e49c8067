"""M³PC itself: pretraining, its three planners, online finetuning with all roles in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from m3pc_ray.agent import Agent
from m3pc_ray.comparison.method import OFFLINE, Assignment, Record, Report
from m3pc_ray.config import Guide, RunConfig
from m3pc_ray.configuration import load_config, with_settings
from m3pc_ray.online.learner import Weights
from m3pc_ray.online.loop import SerialRun
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.training.assemble import Models, load_models
from m3pc_ray.training.checkpoints import list_checkpoints
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.pacing import Pace
from m3pc_ray.training.pretraining import Pretraining
from m3pc_ray.training.run_folder import RunFolder

ROWS: dict[Guide, str] = {"none": "btm", "return": "m3pc-m", "critic": "m3pc-q"}
ONLINE_GUIDES: tuple[Guide, ...] = ("none", "critic")


def train(assignment: Assignment, record: Record, report: Report) -> None:
    """See `comparison.method.Train`."""
    run = _pretrain(assignment, report)
    models = load_models(run)
    agent = Agent.from_models(models)
    for guide, row in ROWS.items():
        agent.guide = guide
        record(OFFLINE, _updates(run), agent, row)
    if assignment.points:
        _finetune(run, assignment, record, report)


def settings_of(assignment: Assignment) -> RunConfig:
    """The configuration of the pretraining."""
    budget = {"pretrain.steps": assignment.budget["btm"], "critic.updates": assignment.budget["critic"]}
    fixed = {"pretrain.order": "in_turn", "pretrain.max_minutes": 0.0, "pretrain.threads": assignment.threads}
    own = {"data.dataset": assignment.reference, "seed": assignment.seed, "device": "cpu"}
    return with_settings(load_config(None), {**assignment.settings, **budget, **fixed, **own})


def _pretrain(assignment: Assignment, report: Report) -> RunFolder:
    run, config = RunFolder(assignment.folder / "pretrained"), settings_of(assignment)
    if run.summary_path.is_file() and run.summary().get("status") == "finished":
        return run
    if run.summary_path.is_file() and list_checkpoints(run):
        pretraining = Pretraining.resume(run, assignment.trajectories)
    else:
        run = RunFolder.create(run.path, config, "pretrain", overwrite=True)
        pretraining = Pretraining(run, config, assignment.trajectories)

    def tell(phase: str, pace: Pace, _row: dict[str, float]) -> None:
        report({"btm": "model update", "critic": "critic update"}[phase], pace.step, pace.total_steps)

    with run.exclusive():
        pretraining.train(tell)
    return run


def _finetune(source: RunFolder, assignment: Assignment, record: Record, report: Report) -> None:
    points = assignment.points
    run = RunFolder(assignment.folder / "online")
    if not (run.summary_path.is_file() and list_checkpoints(run)):
        overrides = {
            "online.steps": points[-1],
            "online.evaluate_every": points[0],
            "online.threads": assignment.threads,
        }
        run = prepare(source, run.path, finetune_config(source, overrides), overwrite=True)
        run.write_summary({"serial": True})
    stop = _Stop()
    with run.exclusive(), OnlineProgress(run, run.config(), quiet=True) as progress, stop:
        scores = Scores(load_models(run), points, record)
        serial = SerialRun(run, progress, stop, scores)
        scores.updates = lambda: _updates(source) + sum(serial.learner.updates.values())
        stop.tell = lambda: report("environment step", serial.keeper.limiter.steps, points[-1])
        # Interrupted while a point was played: it is played now, with what has been learnt since.
        scores.evaluate(serial.learner.weights(), serial.keeper.limiter.steps)
        try:
            serial.train()
        except KeyboardInterrupt:
            run.write_summary({"status": "interrupted"})
            raise
        except BaseException:
            run.note_failure()
            raise


def _updates(run: RunFolder) -> int:
    summary = run.summary()
    return int(summary["btm_updates"]) + int(summary["critic_updates"])


class Scores:
    """Stands where an online run has its evaluator: hands the weights to whoever conducts the comparison."""

    def __init__(self, models: Models, points: tuple[int, ...], record: Record) -> None:
        self.points, self.record = points, record
        self.agent = Agent.from_models(models, config=replace(models.config.planner, guide=ONLINE_GUIDES[-1]))
        self.updates: Callable[[], int] = lambda: 0

    def evaluate(
        self, weights: Weights, environment_steps: int, check: Callable[[], None] = lambda: None
    ) -> list[dict[str, Any]]:
        """See `online.evaluator.Evaluating`; before the first point nothing is played."""
        check()
        passed = [point for point in self.points if point <= environment_steps]
        rows = []
        for guide in ONLINE_GUIDES if passed else ():
            self.agent.planner.load_weights(weights.model, weights.critic)
            self.agent.guide = guide
            row = self.record(passed[-1], self.updates(), self.agent, ROWS[guide], environment_steps)
            rows.append({**row, "planner": guide, "environment_steps": environment_steps})
        return [{**row, "weight_version": weights.version} for row in rows]


class _Stop(StopRequest):
    """Tells of progress whenever it is asked, which an online run does every round."""

    def __init__(self) -> None:
        super().__init__()
        self.tell: Callable[[], None] = lambda: None

    def check(self) -> None:
        self.tell()
        super().check()
