"""The learner on Ray: keeps its mirror up with the replay, does owed updates in chunks, publishes weights."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray
import torch

from m3pc_ray.online.roles import catch_up, make_learner
from m3pc_ray.training.run_folder import RunFolder

CHUNK = {"btm": 2, "critic": 20}
"""Updates between two looks at the replay: under a second, so that new fragments are soon used."""
IDLE_SECONDS = 0.01
"""Pause where nothing may be done."""


@dataclass(frozen=True)
class WorkReport:
    """State of the learner after a call of `work`."""

    updates: dict[str, int]
    steps: int
    metrics: dict[str, float]


class LearnerActor:
    """One call at a time; the driver keeps calling `work`.

    Args:
        run_path: the run folder.
        replay: actor with `exchange` and `read`.
        planners: actors with `set_weights`.
        device: torch device.
        threads: CPU threads.
        delay: seconds of sleep after every update, to try a slow learner on purpose.
    """

    def __init__(
        self, run_path: str, replay: Any, planners: list[Any], device: str, threads: int, delay: float = 0.0
    ) -> None:
        torch.set_num_threads(threads)
        self._run = RunFolder.open(run_path)
        self._replay, self._planners, self._delay = replay, planners, delay
        self._learner = make_learner(self._run, device)
        catch_up(self._learner, lambda start: ray.get(replay.read.remote(start)))
        self._publications: list[ray.ObjectRef] = []
        # Most of a step's small products cannot use a second core; the critic's updates beside the model's can.
        self._critic_thread = ThreadPoolExecutor(1, thread_name_prefix="critic")

    def ready(self) -> bool:
        """Answers once the constructor is through."""
        return True

    def work(self, seconds: float) -> WorkReport:
        """Mirror new fragments and do permitted updates for about so many seconds; at least one look at the replay."""
        ends = time.monotonic() + seconds
        busy, learner = 0.0, self._learner
        started = time.monotonic()
        while True:
            fragments, permitted = ray.get(self._replay.exchange.remote(learner.fragments, learner.updates))
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
            elif not fragments:
                time.sleep(IDLE_SECONDS)
        metrics = learner.metrics()
        metrics["learner_busy"] = busy / max(time.monotonic() - started, 1e-9)
        metrics["replay_segments"] = float(learner.storage.online_segments)
        return WorkReport(dict(learner.updates), learner.steps, metrics)

    def weights(self) -> tuple[list[ray.ObjectRef], int]:
        """The present weights as a boxed reference, and the environment steps they have learnt from."""
        return [ray.put(self._learner.weights())], self._learner.steps

    def checkpoint(self) -> int:
        """Write a checkpoint; returns the environment steps it stands at."""
        self._learner.checkpoint(self._run)
        return self._learner.steps

    def _publish(self) -> None:
        ray.get(self._publications)  # the previous weights have arrived everywhere: no more than one set waits
        reference = ray.put(self._learner.publish())
        self._publications = [planner.set_weights.remote([reference]) for planner in self._planners]
