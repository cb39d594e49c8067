"""The learner on Ray: keeps its mirror up with the replay, does owed updates in chunks, publishes weights."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import ray
import torch
from ray.exceptions import RayError

from actors.role import Colleagues, Role, is_absence, persistently
from m3pc_ray.online.learner import MOST_UPDATES_AT_ONCE
from m3pc_ray.online.roles import catch_up, make_learner
from m3pc_ray.training.run_folder import RunFolder

CHUNK = {"btm": MOST_UPDATES_AT_ONCE, "critic": 20}
"""Updates between two looks at the replay: under a second, so that new fragments are soon used."""
IDLE_SECONDS = 0.01
"""Pause where nothing may be done."""


@dataclass(frozen=True)
class WorkReport:
    """State of the learner after a call of `work`."""

    updates: dict[str, int]
    steps: int
    metrics: dict[str, float]


class LearnerActor(Role):
    """One call at a time; the driver keeps calling `work`.

    A process that takes the place of a dead one starts from the newest checkpoint, mirrors the log and owes again what
    updates were lost: `online.checkpoint_updates` of the trajectory model and the critic's with them, at most.

    Args:
        run_path: the run folder.
        colleagues: the replay, with `exchange` and `read`, and planners, with `set_weights`.
        device: torch device.
        threads: CPU threads.
        delay: seconds of sleep after every update, to try a slow learner on purpose.
    """

    def __init__(self, run_path: str, colleagues: Colleagues, device: str, threads: int, delay: float = 0.0) -> None:
        torch.set_num_threads(threads)
        self._run = RunFolder.open(run_path)
        self._replay, self._planners, self._delay = colleagues.replay(), colleagues.all_planners(), delay
        self._learner = make_learner(self._run, device)
        catch_up(self._learner, lambda start: persistently(lambda: self._replay.read.remote(start)))
        self._published: ray.ObjectRef | None = None
        self._publications: dict[int, ray.ObjectRef] = {}
        self._checkpointed = self._learner.version
        # Most of a step's small products cannot use a second core; the critic's updates beside the model's can.
        self._critic_thread = ThreadPoolExecutor(1, thread_name_prefix="critic")
        self._busy = self._checkpoint_seconds = 0.0
        self._told = (time.monotonic(), dict(self._learner.updates))

    def ready(self) -> bool:
        """Answers once the constructor is through and earlier calls are done."""
        return True

    def values(self) -> dict[str, float]:
        """Updates a second since the last question, and what holds now."""
        learner, now = self._learner, time.monotonic()
        seconds, before = max(now - self._told[0], 1e-9), self._told[1]
        self._told = (now, dict(learner.updates))
        rates = {
            f"updates_per_second_{kind}": (done - before[kind]) / seconds for kind, done in learner.updates.items()
        }
        return {
            **rates,
            "busy": self._busy,
            "updates_since_checkpoint": float(learner.version - self._checkpointed),
            "checkpoint_seconds": self._checkpoint_seconds,
        }

    def work(self, seconds: float) -> WorkReport:
        """Mirror new fragments and do permitted updates for about so many seconds; at least one look at the replay."""
        ends = time.monotonic() + seconds
        busy, learner = 0.0, self._learner
        started = time.monotonic()
        while True:
            fragments, permitted = persistently(
                lambda: self._replay.exchange.remote(learner.fragments, learner.updates)
            )
            learner.ingest(fragments)
            if time.monotonic() >= ends:
                break
            chunk = {kind: min(permitted[kind], most) for kind, most in CHUNK.items()}
            if any(chunk.values()):
                began = time.monotonic()
                learner.update(chunk, self._critic_thread)
                time.sleep(self._delay * sum(chunk.values()))
                busy += time.monotonic() - began
                if learner.publication_due:
                    self._publish()
                if learner.version - self._checkpointed >= learner.config.online.checkpoint_updates:
                    self.checkpoint()
            elif not fragments:
                time.sleep(IDLE_SECONDS)
        metrics = learner.metrics()
        self._busy = metrics["learner_busy"] = busy / max(time.monotonic() - started, 1e-9)
        metrics["replay_segments"] = float(learner.storage.online_segments)
        return WorkReport(dict(learner.updates), learner.steps, metrics)

    def weights(self) -> tuple[list[ray.ObjectRef], int]:
        """The present weights as a boxed reference, and the environment steps they have learnt from."""
        return [ray.put(self._learner.weights())], self._learner.steps

    def checkpoint(self) -> dict[str, int]:
        """Write a checkpoint; returns the updates of each kind in it."""
        started = time.monotonic()
        self._learner.checkpoint(self._run)
        self._checkpoint_seconds = time.monotonic() - started
        self._checkpointed = self._learner.version
        return dict(self._learner.updates)

    def republish(self, planner: int) -> None:
        """Give a planner that was restarted the weights the others have."""
        if self._published is None:
            self._publish()
        else:
            self._publications[planner] = self._planners[planner].set_weights.remote([self._published])

    def _publish(self) -> None:
        self._await_publications()  # no more than one set of weights waits
        self._published = ray.put(self._learner.publish())
        self._publications = {
            number: planner.set_weights.remote([self._published]) for number, planner in enumerate(self._planners)
        }
        if self._learner.config.online.max_weight_lag:
            self._await_publications()  # not one update more before every planner has them

    def _await_publications(self) -> None:
        """Wait until the planners have what was published; the driver has one that was away given it later."""
        for reference in self._publications.values():
            try:
                ray.get(reference)
            except RayError as error:
                if not is_absence(error):
                    raise
        self._publications = {}
