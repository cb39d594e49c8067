"""A rollout worker on Ray: steps its environments with actions of the planner and sends fragments to the replay."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import ray

from m3pc_ray.config import RunConfig
from m3pc_ray.online.collector import FinishedEpisode
from m3pc_ray.online.exploration import Task, make_collector

CALLS_IN_FLIGHT = 2
"""Batches of fragments on their way to the replay; the worker waits before it sends a third."""


@dataclass(frozen=True)
class LeaseReport:
    """What became of a lease."""

    worker: int
    steps: int
    finished: list[FinishedEpisode]
    seconds: float
    planning_seconds: float


class RolloutWorker:
    """Owns environments and episodes; loads no model.

    Args:
        config: the run's settings.
        task: its environment.
        worker, incarnation: name the episodes, see `EpisodeKey`.
        planner: actor with `plan`.
        replay: actor with `add`.
    """

    def __init__(self, config: RunConfig, task: Task, worker: int, incarnation: int, planner: Any, replay: Any) -> None:
        self._collector = make_collector(config, task, worker, incarnation)
        self._planner, self._replay = planner, replay
        self._adds: list[ray.ObjectRef] = []

    def ready(self) -> bool:
        """Answers once the constructor is through."""
        return True

    def collect(self, steps: int) -> LeaseReport:
        """Take so many environment steps; every one of them is in the replay's log when this returns."""
        started, planning = time.monotonic(), 0.0
        self._collector.tickets += steps
        before = self._collector.steps
        while (context := self._collector.request()) is not None:
            asked = time.monotonic()
            actions, version = ray.get(self._planner.plan.remote(context))
            planning += time.monotonic() - asked
            self._collector.act(actions, version)
            self._send()
        self._collector.flush()
        self._send(wait=True)
        return LeaseReport(
            worker=self._collector.worker,
            steps=self._collector.steps - before,
            finished=self._collector.take_finished(),
            seconds=time.monotonic() - started,
            planning_seconds=planning,
        )

    def close(self) -> list[FinishedEpisode]:
        """Close the unfinished episodes as cut, in the log too."""
        self._collector.close_episodes()
        self._send(wait=True)
        return self._collector.take_finished()

    def _send(self, wait: bool = False) -> None:
        fragments = self._collector.take_fragments()
        if fragments:
            if len(self._adds) >= CALLS_IN_FLIGHT:
                done, self._adds = ray.wait(self._adds, num_returns=1)
                ray.get(done)
            self._adds.append(self._replay.add.remote(fragments))
        if wait:
            ray.get(self._adds)
            self._adds = []
