"""`--serial`: the roles of an online run in one process, in a fixed order: same seed, same bits on the same machine.

One round: every worker takes a lease of steps, their environments stepped in turn and planned for together; the
fragments go through the replay to the learner; the learner does what it then owes.
"""

from __future__ import annotations

import time

import torch

from m3pc_ray.online.collector import Collector
from m3pc_ray.online.evaluator import Evaluating
from m3pc_ray.online.exploration import Task, lease_size, make_collector
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.online.replay_role import make_keeper
from m3pc_ray.online.roles import catch_up, make_evaluator, make_learner, make_plan_service
from m3pc_ray.online.tickets import StepTickets
from m3pc_ray.planning.context import concatenate_contexts
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.run_folder import RunFolder

LIVE_SECONDS = 2.0
"""Between two writings of live.json."""


class SerialRun:
    """An online run in this process, from wherever its folder stands.

    Args:
        run: a run made by `preparation.prepare`, or one that was interrupted.
        progress: receives counters, episodes and evaluations.
        stop: ends the run in an orderly way, with a checkpoint.
        evaluator: scores the weights; None: the run's own.
    """

    def __init__(
        self, run: RunFolder, progress: OnlineProgress, stop: StopRequest, evaluator: Evaluating | None = None
    ) -> None:
        self.run, self.progress, self.stop = run, progress, stop
        self.config = config = run.config()
        torch.set_num_threads(config.online.threads or torch.get_num_threads())
        task = Task.from_checkpoint(load_checkpoint(run)[1])
        self.learner = make_learner(run)
        self.keeper = make_keeper(run.path, config, task, self.learner.updates)
        progress.resume_from(self.keeper.limiter.steps)
        catch_up(self.learner, self.keeper.read)
        self.service = make_plan_service(run)
        self.evaluator: Evaluating = make_evaluator(run) if evaluator is None else evaluator
        self.tickets = StepTickets(config.online.steps, self.keeper.limiter.steps)
        self.collectors = [
            make_collector(config, task, worker, self.keeper.new_incarnation(worker))
            for worker in range(config.online.rollout_workers)
        ]
        self._live_at = 0.0
        self._last_checkpoint, self._checkpointed = time.monotonic(), self.learner.version

    def train(self) -> None:
        """Take every step and do every update.

        Raises:
            KeyboardInterrupt: a stop was requested; a checkpoint was written first.
        """
        try:
            if self.learner.steps == 0:
                self._evaluate()
            self._learn()
            while not self.keeper.limiter.finished:
                evaluations = self._evaluations_due()
                self.round()
                self.stop.check()
                if self._evaluations_due() > evaluations and not self.keeper.limiter.finished:
                    self._evaluate()
                if self._checkpoint_due():
                    self._checkpoint()
            self._close_episodes()
            self._evaluate()
        except KeyboardInterrupt:
            self._close_episodes()
            self._checkpoint()
            self.keeper.close()
            self.progress.summary("interrupted")
            raise
        self._checkpoint()
        self.keeper.close()
        self.progress.summary("finished")

    def round(self) -> None:
        """Every worker uses up a lease of steps; then the learner does what it owes."""
        self._collect()
        self._learn()

    def _collect(self) -> None:
        leases = []
        for collector in self.collectors:
            allowed = self.keeper.limiter.step_limit() - self.tickets.granted
            lease = self.tickets.lease(min(lease_size(self.config), allowed))
            if lease is not None:
                collector.tickets += lease.steps
                leases.append((lease, collector))
        busy = [collector for _, collector in leases]
        while requests := [(collector, context) for collector in busy if (context := collector.request()) is not None]:
            answer = self.service.plan(concatenate_contexts([context for _, context in requests]))
            first = 0
            for collector, context in requests:
                own = answer.rows(first, first + len(context))
                collector.act(own.actions, own.version, own.records, own.rest)
                first += len(context)
        for lease, collector in leases:
            collector.flush()
            self.tickets.settle(lease, lease.steps)
            self._hand_over(collector)

    def _hand_over(self, collector: Collector) -> None:
        self.keeper.append(collector.take_fragments())
        self.keeper.sync()
        self.progress.steps = self.keeper.limiter.steps
        self.progress.episodes(collector.take_finished())

    def _learn(self) -> None:
        learner, limiter = self.learner, self.keeper.limiter
        fragments, _ = self.keeper.exchange(learner.fragments, learner.updates)
        learner.ingest(fragments)
        learner.update({kind: max(0, owed) for kind, owed in limiter.owed_updates().items()})
        limiter.record_updates(learner.updates)
        values = learner.metrics()
        if learner.publication_due:
            self.service.set_weights(learner.publish())
        values["planner_batch_mean"] = float(sum(len(collector.group) for collector in self.collectors))
        self.progress.update(limiter.steps, learner.updates, values)
        if time.monotonic() - self._live_at > LIVE_SECONDS:
            self._live_at = time.monotonic()
            self.progress.live("running")

    def _evaluations_due(self) -> int:
        every = self.config.online.evaluate_every
        return self.keeper.limiter.steps // every if every else 0

    def _evaluate(self) -> None:
        rows = self.evaluator.evaluate(self.learner.weights(), self.keeper.limiter.steps, self.stop.check)
        if rows:
            self.progress.evaluation(rows)

    def _close_episodes(self) -> None:
        for collector in self.collectors:
            collector.close_episodes()
            self._hand_over(collector)
        self._learn()

    def _checkpoint_due(self) -> bool:
        online = self.config.online
        if self.learner.version - self._checkpointed >= online.checkpoint_updates:
            return True
        return time.monotonic() - self._last_checkpoint > 60.0 * online.checkpoint_minutes

    def _checkpoint(self) -> None:
        self.learner.checkpoint(self.run)
        self._checkpointed = self.learner.version
        self.progress.update(self.keeper.limiter.steps, self.learner.updates, {}, force=True)
        self._last_checkpoint = time.monotonic()
