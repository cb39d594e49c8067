"""Drives an online run on Ray: leases steps to the workers, keeps the learner at work, evaluates, saves, shows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayActorError, RayTaskError

from actors.cluster import Resources, ray_session, share_resources
from actors.evaluator import EvaluatorActor
from actors.learner import LearnerActor, WorkReport
from actors.planner import PlannerActor
from actors.replay import ReplayActor
from actors.rollout_worker import LeaseReport, RolloutWorker
from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.online.exploration import Task, lease_size
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.online.tickets import Lease, StepTickets
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.run_folder import RunFolder

LEASES_IN_FLIGHT = 2
"""Calls a worker may have: one it works on, one that waits, so that it never idles between two."""
WORK_CALLS_IN_FLIGHT = 2
WORK_SECONDS = 0.5
"""Length of one call of the learner: what a checkpoint or an evaluation may have to wait for."""
START_SECONDS = 300.0
"""Longest start of all roles."""
STOP_SECONDS = 60.0
"""Longest orderly end of the leases after Ctrl-C."""
STATUS_SECONDS = 0.25
"""Between two looks at the replay, ..."""
STARVED_STATUS_SECONDS = 0.1
"""... and while a worker waits for permission to step."""
STATISTICS_SECONDS = 2.0
"""Between two looks at the planner."""


def run_on_ray(run: RunFolder, progress: OnlineProgress, stop: StopRequest, learner_delay: float = 0.0) -> None:
    """Bring a finetuning run to its end on Ray, from wherever its folder stands.

    Args:
        run: made by `preparation.prepare`, or interrupted before.
        progress: receives counters, episodes and evaluations.
        stop: ends the run in an orderly way, with a checkpoint.
        learner_delay: seconds of sleep after every update, to try a slow learner on purpose.

    Raises:
        UserError: no cluster answers, the roles do not fit it, a role died, the disk is full, or training diverged.
        KeyboardInterrupt: a stop was requested; a checkpoint was written first.
    """
    progress.notice = "starting Ray"
    with ray_session():
        online_run = OnlineRun(run, progress, stop, learner_delay)
        try:
            online_run.start()
            online_run.train()
        except (RayTaskError, RayActorError) as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            if isinstance(cause, UserError):
                raise cause from None
            if isinstance(cause, RayActorError):
                raise UserError(online_run.obituary(cause)) from error
            raise
        finally:
            online_run.end()


@dataclass(frozen=True)
class _Call:
    """What an outstanding reference is the answer to."""

    kind: str
    worker: int = -1
    lease: Lease | None = None


class OnlineRun:
    """The roles as actors, and the loop that answers whichever of them reports next."""

    def __init__(self, run: RunFolder, progress: OnlineProgress, stop: StopRequest, learner_delay: float) -> None:
        self.run, self.progress, self.stop = run, progress, stop
        self.config: RunConfig = run.config()
        self._learner_delay = learner_delay
        self._actors: dict[str, tuple[str, Any]] = {}
        """Every role, with its class, by Ray's name for it."""
        self._calls: dict[ray.ObjectRef, _Call] = {}
        self._status: dict[str, Any] = {}
        self._status_asked = self._statistics_asked = 0.0
        self._evaluated_intervals = 0
        self._closing = False

    def start(self) -> None:
        """Create every role and wait until all are ready."""
        config, path = self.config, str(self.run.path.resolve())
        online = config.online
        resources = share_resources(online.rollout_workers, online.threads, config.device != "cpu")
        _, state = load_checkpoint(self.run)
        task, updates = Task.from_checkpoint(state), state.get("online", {}).get("updates", {})
        self.progress.notice = "starting roles"
        self.replay = self._create(ReplayActor, resources.replay, path, config, task, updates, max_concurrency=1000)
        self.planner = self._create(
            PlannerActor,
            resources.planner,
            path,
            online.rollout_workers,
            self._device(resources.planner),
            1,
            max_concurrency=1000,
            concurrency_groups={"control": 8},
        )
        self.learner = self._create(
            LearnerActor,
            resources.learner,
            path,
            self.replay,
            [self.planner],
            self._device(resources.learner),
            resources.threads,
            self._learner_delay,
        )
        self.evaluator = self._create(EvaluatorActor, resources.evaluator, path, self._device(resources.evaluator), 1)
        incarnations = self._get(
            [self.replay.new_incarnation.remote(worker) for worker in range(online.rollout_workers)], resources
        )
        self.workers = [
            self._create(
                RolloutWorker, resources.rollout_worker, config, task, worker, incarnation, self.planner, self.replay
            )
            for worker, incarnation in enumerate(incarnations)
        ]
        ready = [actor.ready.remote() for actor in (self.learner, *self.workers)]
        self._get([*ready, self.planner.statistics.remote()], resources)
        self._status = ray.get(self.replay.status.remote())
        self.progress.resume_from(self._status["steps"])
        self.tickets = StepTickets(online.steps, self._status["steps"])
        self._last_checkpoint = time.monotonic()
        self._evaluated_intervals = self._intervals()

    def train(self) -> None:
        """Take every step, do every update, evaluate and save.

        Raises:
            KeyboardInterrupt: a stop was requested; a checkpoint was written first.
        """
        self.progress.notice = "running"
        if self._status["steps"] == 0:
            self._ask_for_weights()
        for _ in range(WORK_CALLS_IN_FLIGHT):
            self._call(self.learner.work.remote(WORK_SECONDS), _Call("work"))
        while not (self.tickets.finished and self._closing and self._status["finished"]):
            if self.stop.requested:
                self._stop_in_order()
            self._lease_steps()
            self._look()
            self._next_answers()
        self._finish()

    def end(self) -> None:
        """Remove every role from the cluster."""
        for _, actor in self._actors.values():
            ray.kill(actor)

    def obituary(self, error: RayActorError) -> str:
        """One line on the role that died and on how to go on."""
        role, _ = self._actors.get(error.actor_id or "", ("a role", None))
        reason = str(error).strip().splitlines()[-1].strip()
        return (
            f"{self.run.path}: {role} died ({reason}); collected steps and the last checkpoint are safe: "
            f"m3pc resume {self.run.path}"
        )

    # --- what is asked -------------------------------------------------------------------------------------------

    def _lease_steps(self) -> None:
        """Keep every worker supplied, as far as the limiter allows; close the episodes after the last step."""
        counts = self._leases_by_worker()
        for depth in range(LEASES_IN_FLIGHT):  # every worker its first lease before any its second
            for worker, actor in enumerate(self.workers):
                if counts[worker] > depth:
                    continue
                allowed = self._status["step_limit"] - self.tickets.granted
                lease = self.tickets.lease(min(lease_size(self.config), allowed))
                if lease is not None:
                    counts[worker] += 1
                    self._call(actor.collect.remote(lease.steps), _Call("collect", worker, lease))
        if self.tickets.finished and not self._closing:
            self._closing = True
            for actor in self.workers:
                self._call(actor.close.remote(), _Call("close"))

    def _look(self) -> None:
        """Ask replay and planner for their counters, evaluate and save when it is time."""
        now = time.monotonic()
        asked = {call.kind for call in self._calls.values()}
        starved = 0 in self._leases_by_worker() and self.tickets.free > 0
        pause = STARVED_STATUS_SECONDS if starved or self._closing else STATUS_SECONDS
        if "status" not in asked and now - self._status_asked > pause:
            self._status_asked = now
            self._call(self.replay.status.remote(starved), _Call("status"))
        if "statistics" not in asked and now - self._statistics_asked > STATISTICS_SECONDS:
            self._statistics_asked = now
            self._call(self.planner.statistics.remote(), _Call("statistics"))
        if self._intervals() > self._evaluated_intervals and not asked & {"weights", "evaluate"}:
            self._evaluated_intervals = self._intervals()
            self._ask_for_weights()
        due = now - self._last_checkpoint > 60.0 * self.config.online.checkpoint_minutes
        if due and "checkpoint" not in asked:
            self._call(self.learner.checkpoint.remote(), _Call("checkpoint"))

    def _ask_for_weights(self) -> None:
        self._call(self.learner.weights.remote(), _Call("weights"))

    # --- what is answered ----------------------------------------------------------------------------------------

    def _next_answers(self) -> None:
        """Wait for an answer, then deal with all that are there."""
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=0.05)
        if ready:
            more, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
            for reference in {*ready, *more}:
                self._answer(self._calls.pop(reference), ray.get(reference))

    def _answer(self, call: _Call, result: Any) -> None:
        match call.kind:
            case "collect":
                self._on_collected(call, result)
            case "close":
                self.progress.episodes(result)
            case "work":
                self._on_work(result)
            case "status":
                self._status = result
                waiting = {f"waiting_{side}": share for side, share in result["waiting"].items()}
                counts = {name: float(result[name]) for name in ("fragments", "fragments_in_memory", "duplicates")}
                self.progress.update(result["steps"], result["updates"], waiting | counts)
            case "statistics":
                self.progress.values |= result
            case "weights":
                boxed, steps = result
                if steps < self.config.online.steps:  # the last evaluation has weights of its own
                    self._call(self.evaluator.evaluate.remote(boxed, steps), _Call("evaluate"))
            case "evaluate":
                self.progress.evaluation(result)
            case "checkpoint":
                self._last_checkpoint = time.monotonic()

    def _on_collected(self, call: _Call, report: LeaseReport) -> None:
        assert call.lease is not None
        self.tickets.settle(call.lease, report.steps)
        self.progress.episodes(report.finished)
        self.progress.values["planning_share"] = report.planning_seconds / max(report.seconds, 1e-9)

    def _on_work(self, report: WorkReport) -> None:
        self.progress.values |= report.metrics
        self._call(self.learner.work.remote(WORK_SECONDS), _Call("work"))

    # --- ends ----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """After the last update: final checkpoint, last evaluation, summary."""
        self.progress.notice = "last checkpoint and evaluation"
        self._settle("close", "evaluate", "weights", "work")
        self._save()
        self.progress.values |= ray.get(self.planner.statistics.remote())
        boxed, steps = ray.get(self.learner.weights.remote())
        self._call(self.evaluator.evaluate.remote(boxed, steps), _Call("evaluate"))
        while any(call.kind == "evaluate" for call in self._calls.values()):
            self.stop.check()
            self._next_answers()
        self.progress.update(self._status["steps"], self._status["updates"], {}, force=True)
        self.progress.summary("finished")

    def _stop_in_order(self) -> None:
        """Ctrl-C: let the leases end, close the episodes, write a checkpoint."""
        self.progress.notice = "stopping: writing a checkpoint (Ctrl-C again: at once)"
        ends = time.monotonic() + STOP_SECONDS
        while any(call.kind == "collect" for call in self._calls.values()) and time.monotonic() < ends:
            self._next_answers()
        if not self._closing:
            ray.get([actor.close.remote() for actor in self.workers])
        self._save()
        self.progress.update(self._status["steps"], self._status["updates"], {}, force=True)
        self.progress.summary("interrupted")
        raise KeyboardInterrupt

    def _save(self) -> None:
        """Let the learner mirror the last fragments, write a checkpoint of it, end the log file."""
        ray.get(self.learner.work.remote(0.0))
        ray.get(self.learner.checkpoint.remote())
        self._status = ray.get(self.replay.status.remote())
        ray.get(self.replay.close.remote())

    def _settle(self, *kinds: str) -> None:
        """Wait until no call of these kinds is outstanding; the learner is given no further work."""
        while any(call.kind in kinds for call in self._calls.values()):
            ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=0.5)
            for reference in ready:
                call = self._calls.pop(reference)
                result = ray.get(reference)
                if call.kind != "work":
                    self._answer(call, result)
            if self.stop.requested:
                self._stop_in_order()

    # --- helpers -------------------------------------------------------------------------------------------------

    def _create(self, role: type, resources: dict[str, float], *arguments: Any, **options: Any) -> Any:
        groups = options.pop("concurrency_groups", None)
        remote = ray.remote(concurrency_groups=groups)(role) if groups else ray.remote(role)
        actor = remote.options(**resources, **options).remote(*arguments)
        self._actors[actor._actor_id.hex()] = (role.__name__, actor)
        return actor

    def _get(self, references: list[ray.ObjectRef], resources: Resources) -> list[Any]:
        """Answers of starting roles. Raises UserError where they do not start in time."""
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends:
            self.stop.check()
            try:
                answers: list[Any] = ray.get(references, timeout=1.0)
            except GetTimeoutError:
                continue
            except ActorDiedError as error:  # a constructor failed; Ray keeps only the text of the reason
                mistakes = [line for line in str(error).splitlines() if "UserError: " in line]
                if mistakes:
                    raise UserError(mistakes[-1].partition("UserError: ")[2]) from None
                raise
            return answers
        raise UserError(
            f"the roles did not start within {START_SECONDS:.0f} s; they ask for {resources}, the cluster has free "
            f"{ray.available_resources()}: fewer --rollout-workers, or wait until it has room"
        )

    def _call(self, reference: ray.ObjectRef, call: _Call) -> None:
        self._calls[reference] = call

    def _leases_by_worker(self) -> list[int]:
        counts = [0] * len(self.workers)
        for call in self._calls.values():
            if call.kind == "collect":
                counts[call.worker] += 1
        return counts

    def _intervals(self) -> int:
        every = self.config.online.evaluate_every
        return self._status["steps"] // every if every else 0

    def _device(self, resources: dict[str, float]) -> str:
        """The role's torch device: Ray shows a role only the GPU it was given, as the first one."""
        if resources.get("num_gpus", 0) > 0:
            return "cuda"
        return "cpu"
