"""A rollout worker on Ray: steps its environments with actions of a planner and sends fragments to the replay."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError

from actors.role import PATIENCE_SECONDS, PAUSE_SECONDS, Colleagues, Role, RolesGoneError, persistently
from m3pc_ray.config import RunConfig
from m3pc_ray.online.collector import FinishedEpisode
from m3pc_ray.online.exploration import Task, make_collector
from m3pc_ray.online.replay.fragments import Fragment

MOST_UNACKNOWLEDGED = 64
"""Fragments a worker may hold that the replay has not acknowledged; it waits before it steps on."""
OVERLAP_SHARE = 0.1
"""Simulation's share of a worker's time from which it pays to step one half of the environments while the other half
is planned for; below, halving the planner's batches costs more."""
SETTLING_ROUNDS = 20
"""Rounds before that share is believed."""


@dataclass(frozen=True)
class LeaseReport:
    """What became of a lease."""

    worker: int
    steps: int
    finished: list[FinishedEpisode]
    seconds: float
    planning_seconds: float
    """Of which the worker stood still for want of actions, ..."""
    simulation_seconds: float
    """... and stepped environments."""


class RolloutWorker(Role):
    """Owns environments and episodes; loads no model.

    A process that takes the place of a dead one asks the replay for a new incarnation number, by which the replay
    closes what the dead one had begun.

    Args:
        config: the run's settings.
        task: its environment.
        worker: its number.
        colleagues: planners, with `plan`, of which it asks number `worker` modulo their count and another one while
            that is away; the replay, with `new_incarnation` and `add`.
    """

    def __init__(self, config: RunConfig, task: Task, worker: int, colleagues: Colleagues) -> None:
        self._replay, self._planners = colleagues.replay(), colleagues.all_planners()
        self._home, self._overlap = worker % len(self._planners), config.online.overlap
        incarnation = persistently(lambda: self._replay.new_incarnation.remote(worker))
        self._collector = make_collector(config, task, worker, incarnation)
        if self._overlap == "always":
            self._collector.set_lanes(2)
        self._held: list[Fragment] = []
        self._sent: list[Fragment] = []
        self._add: ray.ObjectRef | None = None
        self._rounds = 0
        self._planning = self._simulating = 0.0
        self._asked_elsewhere = 0
        self._told = (time.monotonic(), 0, 0.0, 0.0)

    def ready(self) -> bool:
        """Answers once the constructor is through and earlier calls are done."""
        return True

    def values(self) -> dict[str, float]:
        """How the time since the last question was spent, and what holds now."""
        now = (time.monotonic(), self._collector.steps, self._planning, self._simulating)
        seconds, steps, planning, simulating = (new - old for new, old in zip(now, self._told, strict=True))
        self._told = now
        seconds = max(seconds, 1e-9)
        return {
            "steps_per_second": steps / seconds,
            "planning_share": planning / seconds,
            "simulation_share": simulating / seconds,
            "lanes": float(self._collector.lanes),
            "unacknowledged_fragments": float(len(self._held) + len(self._sent)),
            "requests_elsewhere": float(self._asked_elsewhere),
        }

    def collect(self, steps: int) -> LeaseReport:
        """Take so many environment steps; every one of them is in the replay's log when this returns."""
        collector, started = self._collector, time.monotonic()
        before, planning, simulating = collector.steps, self._planning, self._simulating
        collector.tickets += steps
        asked = {lane: call for lane in range(collector.lanes) if (call := self._ask(lane)) is not None}
        while asked:
            lane = next(iter(asked))  # the one that was asked first
            answer = self._answer(asked.pop(lane))
            stepping = time.monotonic()
            collector.act(answer.actions, answer.version, answer.records, answer.rest, lane)
            self._simulating += time.monotonic() - stepping
            if (call := self._ask(lane)) is not None:
                asked[lane] = call
            self._send()
        collector.flush()
        self._send(wait=True)
        seconds = time.monotonic() - started
        simulated = self._simulating - simulating
        self._choose_lanes(simulated / seconds)
        return LeaseReport(
            worker=collector.worker,
            steps=collector.steps - before,
            finished=collector.take_finished(),
            seconds=seconds,
            planning_seconds=self._planning - planning,
            simulation_seconds=simulated,
        )

    def close(self) -> list[FinishedEpisode]:
        """Close the unfinished episodes as cut, in the log too."""
        self._collector.close_episodes()
        self._send(wait=True)
        return self._collector.take_finished()

    # --- planning ------------------------------------------------------------------------------------------------

    def _ask(self, lane: int) -> tuple[Any, ray.ObjectRef] | None:
        context = self._collector.request(lane)
        if context is None:
            return None
        self._rounds += 1
        return context, self._plan(context, self._home)

    def _plan(self, context: Any, planner: int) -> ray.ObjectRef:
        return self._planners[planner].plan.remote(context, self._collector.worker, time.time())

    def _answer(self, call: tuple[Any, ray.ObjectRef]) -> Any:
        """Actions and version; any planner may answer, so that one that is away costs time only."""
        context, reference = call
        asked = time.monotonic()
        planner = self._home
        while True:
            try:
                answer = ray.get(reference)
            except RayActorError as error:
                if time.monotonic() - asked > PATIENCE_SECONDS:
                    raise RolesGoneError(f"no planner answers: {error}") from error
                planner = (planner + 1) % len(self._planners)
                if planner == self._home:
                    time.sleep(PAUSE_SECONDS)
                else:
                    self._asked_elsewhere += 1
                reference = self._plan(context, planner)
            else:
                self._planning += time.monotonic() - asked
                return answer

    def _choose_lanes(self, simulation_share: float) -> None:
        """Between two leases: two lanes where simulation is worth hiding behind planning."""
        if self._overlap != "auto" or self._rounds < SETTLING_ROUNDS:
            return
        wanted = 2 if simulation_share > OVERLAP_SHARE else 1
        if wanted != self._collector.lanes and len(self._collector.group) > 1:
            self._collector.set_lanes(wanted)
            self._rounds = 0

    # --- sending -------------------------------------------------------------------------------------------------

    def _send(self, wait: bool = False) -> None:
        """Hand cut fragments to the replay: one call at a time, because those of an episode must arrive in order."""
        self._held += self._collector.take_fragments()
        if self._add is not None:
            ready, _ = ray.wait([self._add], timeout=0)
            if ready or wait or len(self._held) + len(self._sent) > MOST_UNACKNOWLEDGED:
                self._acknowledged()
        if self._add is None and self._held:
            self._sent, self._held = self._held, []
            self._add = self._replay.add.remote(self._sent)
            if wait:
                self._acknowledged()

    def _acknowledged(self) -> None:
        """Wait for the replay's answer; what a replay that died may not have written is sent again."""
        try:
            ray.get(self._add)
        except RayActorError:
            persistently(lambda: self._replay.add.remote(self._sent))
        self._add, self._sent = None, []
