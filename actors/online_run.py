"""Drives an online run on Ray: leases steps to the workers, keeps the learner at work, evaluates, saves, shows.

The loop asks every role for what comes next and answers whichever reports first. A call that failed because its role
died is no error: the role comes back by itself (`Crew`), the call is made again, and the steps that a dead worker had
in hand are settled by what the replay's log holds of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from actors.cluster import share_resources
from actors.crew import Crew
from actors.evaluator import EvaluatorActor
from actors.learner import LearnerActor, WorkReport
from actors.monitor import Monitor
from actors.placement import RoleBundles
from actors.planner import PlannerActor
from actors.replay import ReplayActor
from actors.role import PAUSE_SECONDS, Colleagues, is_absence
from actors.rollout_worker import LeaseReport, RolloutWorker
from actors.worker_leases import WorkerLeases
from m3pc_ray.config import RunConfig
from m3pc_ray.online.exploration import Task, lease_size
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.online.tickets import StepTickets
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.run_folder import RunFolder

WORK_CALLS_IN_FLIGHT = 2
"""One call the learner works on, one that waits, so that it never idles between two."""
WORK_SECONDS = 0.5
"""Length of one call of the learner: what a checkpoint or an evaluation may have to wait for."""
STOP_SECONDS = 60.0
"""Longest orderly end of the leases after Ctrl-C."""
STATUS_SECONDS = 0.25
"""Between two looks at the replay, ..."""
STARVED_STATUS_SECONDS = 0.1
"""... and while a worker waits for permission to step."""


@dataclass(frozen=True)
class _Call:
    """What an outstanding reference is the answer to."""

    kind: str
    role: str
    lease: Any = None


class OnlineRun:
    """The roles as actors, and the loop that answers whichever of them reports next."""

    def __init__(
        self,
        run: RunFolder,
        progress: OnlineProgress,
        stop: StopRequest,
        learner_delay: float,
        bundles: RoleBundles | None = None,
    ) -> None:
        self.run, self.progress, self.stop, self._bundles = run, progress, stop, bundles
        self.config: RunConfig = run.config()
        self._learner_delay = learner_delay
        self.crew = Crew(self.config.online.max_restarts, bundles.options if bundles else lambda _: {})
        self.monitor = Monitor(run, progress, self.crew)
        self._calls: dict[ray.ObjectRef, _Call] = {}
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._status: dict[str, Any] = {}
        self._status_asked = 0.0
        self._evaluated_intervals = 0
        self._closing = self._stopping = False

    def start(self) -> None:
        """Create every role and wait until all are ready."""
        config, path, crew = self.config, str(self.run.path.resolve()), self.crew
        online = config.online
        shares = self._bundles.shares if self._bundles else share_resources(online, config.device != "cpu")
        _, state = load_checkpoint(self.run)
        task, updates = Task.from_checkpoint(state), state.get("online", {}).get("updates", {})
        self.progress.notice = "starting roles"
        self.replay = crew.hire("replay", ReplayActor, shares.replay, path, config, task, updates, max_concurrency=1000)
        device = _device(shares.planner)
        for number in range(shares.planners):
            crew.hire(
                f"planner-{number}",
                PlannerActor,
                shares.planner,
                path,
                len(range(number, online.rollout_workers, shares.planners)),
                device,
                1,
                max_concurrency=1000,
            )
        colleagues = Colleagues(crew.namespace, shares.planners)
        learner_arguments = (path, colleagues, _device(shares.learner), shares.threads)
        self.learner = crew.hire("learner", LearnerActor, shares.learner, *learner_arguments, self._learner_delay)
        self.evaluator = crew.hire("evaluator", EvaluatorActor, shares.evaluator, path, _device(shares.evaluator), 1)
        self.workers = [
            crew.hire(
                f"rollout_worker-{worker}", RolloutWorker, shares.rollout_worker, config, task, worker, colleagues
            )
            for worker in range(online.rollout_workers)
        ]
        ready = [actor.ready.remote() for actor in (self.learner, self.evaluator, *self.workers)]
        accounts = [member.handle.account.remote() for member in crew.members.values()]
        answers = crew.wait_until_ready([*ready, *accounts], self.stop.check, shares)
        for name, account in zip(crew.members, answers[len(ready) :], strict=True):
            crew.note_account(name, account)
        self._status = ray.get(self.replay.status.remote())
        self.progress.resume_from(self._status["steps"])
        self.tickets = StepTickets(online.steps, self._status["steps"])
        steps_by_worker = ray.get([self.replay.worker_steps.remote(w) for w in range(online.rollout_workers)])
        self.leases = WorkerLeases(self.tickets, steps_by_worker)
        self._last_checkpoint = time.monotonic()
        self._evaluated_intervals = self._intervals()

    def train(self) -> None:
        """Take every step, do every update, evaluate and save.

        Raises:
            KeyboardInterrupt: a stop was requested; a checkpoint was written first.
        """
        self.progress.notice, self.monitor.state = "running", "running"
        if self._status["steps"] == 0:
            self._ask_for_weights()
        for _ in range(WORK_CALLS_IN_FLIGHT):
            self._ask_for_work()
        while not (self.tickets.finished and self._closing and self._status["finished"]):
            if self.stop.requested:
                self._stop_in_order()
            self._lease_steps()
            self._look()
            self._next_answers()
        self._finish()

    def end(self, state: str) -> None:
        """Leave a last live status and remove every role from the cluster."""
        try:
            self.monitor.end(state)
        finally:
            self.crew.dismiss()

    # --- what is asked -------------------------------------------------------------------------------------------

    def _call(self, kind: str, role: str, reference: ray.ObjectRef, lease: Any = None) -> None:
        self._calls[reference] = _Call(kind, role, lease)

    def _lease_steps(self) -> None:
        """Keep every worker supplied, as far as the limiter allows; close the episodes after the last step."""
        size, start_steps = lease_size(self.config), self.config.online.start_steps
        for worker in self.leases.wanting():
            count = self.leases.next_size(size, self._status["step_limit"], start_steps)
            lease = self.leases.grant(worker, count)
            if lease is not None:
                reference = self.workers[worker].collect.remote(lease.steps)
                self._call("collect", f"rollout_worker-{worker}", reference, lease)
        if self.tickets.finished and not self._closing:
            self._closing = True
            for worker, actor in enumerate(self.workers):
                self._call("close", f"rollout_worker-{worker}", actor.close.remote())

    def _look(self) -> None:
        """Ask the replay for its counters, every role for its account; evaluate and save when it is time."""
        now = time.monotonic()
        for due, action in [entry for entry in self._later if entry[0] <= now]:
            self._later.remove((due, action))
            action()
        asked = {call.kind for call in self._calls.values()}
        starved = self.leases.someone_idle and self.tickets.free > 0
        pause = STARVED_STATUS_SECONDS if starved or self._closing else STATUS_SECONDS
        if "status" not in asked and now - self._status_asked > pause:
            self._status_asked = now
            self._call("status", "replay", self.replay.status.remote(starved))
        for name, reference in self.monitor.questions():
            self._call("account", name, reference)
        if self._intervals() > self._evaluated_intervals and not asked & {"weights", "evaluate"}:
            self._evaluated_intervals = self._intervals()
            self._ask_for_weights()
            self._call("checkpoint", "learner", self.learner.checkpoint.remote())  # of the same weights
        due = now - self._last_checkpoint > 60.0 * self.config.online.checkpoint_minutes
        if due and "checkpoint" not in asked:
            self._call("checkpoint", "learner", self.learner.checkpoint.remote())
        self.monitor.look(self._status)

    def _ask_for_work(self) -> None:
        self._call("work", "learner", self.learner.work.remote(WORK_SECONDS))

    def _ask_for_weights(self) -> None:
        self._call("weights", "learner", self.learner.weights.remote())

    def _ask_whether_back(self, role: str) -> None:
        self._call("back", role, self.crew.members[role].handle.ready.remote())

    # --- what is answered ----------------------------------------------------------------------------------------

    def _next_answers(self) -> None:
        """Wait for an answer, then deal with all that are there."""
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=0.05)
        if ready:
            more, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
            for reference in {*ready, *more}:
                call = self._calls.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayError as error:
                    if not is_absence(error):
                        raise
                    self._on_absence(call, error)
                else:
                    self._answer(call, result)

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
            case "account":
                if self.monitor.note(call.role, result) and call.role.startswith("planner"):
                    self._call("republish", "learner", self.learner.republish.remote(_number(call.role)))
            case "weights":
                boxed, steps = result
                if steps < self.config.online.steps:  # the last evaluation has weights of its own
                    self._call("evaluate", "evaluator", self.evaluator.evaluate.remote(boxed, steps))
            case "evaluate":
                self.progress.evaluation(result)
            case "checkpoint":
                self._last_checkpoint = time.monotonic()
            case "back":  # its constructor is through, so the replay has closed what it had begun
                if self.leases.holds(_number(call.role)):
                    self._after_pause(lambda: self._ask_whether_back(call.role))
                else:
                    reference = self.replay.worker_steps.remote(_number(call.role))
                    self._call("worker_steps", call.role, reference)
            case "worker_steps":
                self.leases.recover(_number(call.role), result)

    def _on_collected(self, call: _Call, report: LeaseReport) -> None:
        self.leases.settle(report.worker, call.lease, report.steps)
        self.progress.episodes(report.finished)
        self.monitor.note_lease(report)

    def _on_work(self, report: WorkReport) -> None:
        self.progress.values |= report.metrics
        if not self._closing or not self._status["finished"]:
            self._ask_for_work()

    def _on_absence(self, call: _Call, error: BaseException) -> None:
        """A role's process is gone: count it, and ask again what must be asked again."""
        role = self.crew.name_of(error)
        if role in self.crew.members:
            self.monitor.note_absence(role, error)
        match call.kind:
            case "collect":
                first = not self.leases.is_lost(_number(call.role))
                self.leases.lose(_number(call.role), call.lease)
                if first:
                    self._after_pause(lambda: self._ask_whether_back(call.role))
            case "close" | "back":
                self._after_pause(lambda: self._ask_whether_back(call.role))
            case "account":
                self.monitor.note_unanswered(call.role)
            case "worker_steps":
                self._after_pause(lambda: self._answer(_Call("back", call.role), None))
            case "work":
                self._after_pause(self._ask_for_work)
            case "weights" | "evaluate":
                self._after_pause(self._ask_for_weights)
            case "republish":  # a learner that is new publishes to everyone by itself
                pass

    def _after_pause(self, action: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + PAUSE_SECONDS, action))

    # --- ends ----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """After the last update: final checkpoint, last evaluation, summary."""
        self.progress.notice, self.monitor.state = "last checkpoint and evaluation", "finishing"
        self._settle("close", "back", "worker_steps", "evaluate", "weights", "work")
        for name, member in self.crew.members.items():  # their last numbers
            self.monitor.note(name, self._insist(member.handle.account.remote))
        self._insist(self.replay.close.remote)
        while True:  # a learner that dies now comes back from an older checkpoint and owes updates again
            report = self._insist(lambda: self.learner.work.remote(WORK_SECONDS))
            if (
                report.updates == self.config.online.promised_updates()
                and self._insist(self.learner.checkpoint.remote) == report.updates
            ):
                break
        self._status = self._insist(self.replay.status.remote)
        rows = self._insist(self._last_evaluation)
        self.progress.update(self._status["steps"], self._status["updates"], {}, force=True)
        self.progress.evaluation(rows)
        self.progress.summary("finished")

    def _last_evaluation(self) -> ray.ObjectRef:
        boxed, steps = ray.get(self.learner.weights.remote())
        return self.evaluator.evaluate.remote(boxed, steps)

    def _stop_in_order(self) -> None:
        """Ctrl-C: let the leases end, close the episodes, write a checkpoint."""
        self.progress.notice, self._stopping = "stopping: writing a checkpoint (Ctrl-C again: at once)", True
        ends = time.monotonic() + STOP_SECONDS
        while any(call.kind == "collect" for call in self._calls.values()) and time.monotonic() < ends:
            self._look()
            self._next_answers()
        if not self._closing:
            for actor in self.workers:
                self._insist(actor.close.remote)
        self._insist(lambda: self.learner.work.remote(0.0))  # the last fragments are mirrored
        self._insist(self.learner.checkpoint.remote)
        self._status = self._insist(self.replay.status.remote)
        self._insist(self.replay.close.remote)
        self.progress.update(self._status["steps"], self._status["updates"], {}, force=True)
        self.progress.summary("interrupted")
        raise KeyboardInterrupt

    def _settle(self, *kinds: str) -> None:
        """Wait until no call of these kinds is outstanding; the learner is given no further work."""
        while any(call.kind in kinds for call in self._calls.values()) or self._later:
            if self.stop.requested:
                self._stop_in_order()
            self._look()
            self._next_answers()

    def _insist(self, ask: Callable[[], ray.ObjectRef]) -> Any:
        """The answer of a call at the end of a sitting, made again if its role dies meanwhile."""
        while True:
            try:
                reference = ask()
                while not ray.wait([reference], timeout=0.05)[0]:
                    if not self._stopping:
                        self.stop.check()
                    self._look()
                    self._next_answers()
                return ray.get(reference)
            except ray.exceptions.RayError as error:
                if not is_absence(error):
                    raise
                role = self.crew.name_of(error)
                if role in self.crew.members:
                    self.monitor.note_absence(role, error)
                time.sleep(PAUSE_SECONDS)

    def _intervals(self) -> int:
        every = self.config.online.evaluate_every
        return self._status["steps"] // every if every else 0


def _number(role: str) -> int:
    return int(role.rpartition("-")[2])


def _device(resources: dict[str, float]) -> str:
    """A role's torch device: Ray shows it only the GPU it was given, as the first one."""
    return "cuda" if resources.get("num_gpus", 0) > 0 else "cpu"
