"""The planner on Ray: joins the requests of all workers into batches."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import ray
import torch

from actors.company import Company
from actors.role import CONTROL, Role
from m3pc_ray.online.plan_service import PlanAnswer
from m3pc_ray.online.roles import make_plan_service
from m3pc_ray.planning.context import PlanningContext, concatenate_contexts
from m3pc_ray.training.run_folder import RunFolder


@dataclass
class _Request:
    context: PlanningContext
    worker: int
    answer: asyncio.Future[PlanAnswer]
    arrived: float


BATCHES_REMEMBERED = 64
"""Starts of batches by which a request is found to have been under way when they left."""


class PlannerActor(Role):
    """An async actor; the model runs in a thread of its own, never on the event loop.

    Requests gather while the model computes. Once it is idle a batch leaves as soon as it has `target_rows` rows, or
    no other worker's request is expected before its oldest request has waited `batch_wait_ms`, or that time is over.

    Args:
        run_path: the run folder.
        workers: rollout workers whose first choice this planner is.
        device: torch device.
        threads: CPU threads.
    """

    def __init__(self, run_path: str, workers: int, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        run = RunFolder.open(run_path)
        online = run.config().online
        self._service = make_plan_service(run, device)
        self._wait_seconds = online.planner_batch_wait_ms / 1000.0
        self._target_rows = max(1, workers) * online.environments_per_worker
        self._company = Company(workers)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._waiting: list[_Request] = []
        self._computing = False
        self._idle_since = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._histogram: dict[int, int] = {}
        self._starts: deque[float] = deque(maxlen=BATCHES_REMEMBERED)
        self._reset_statistics()

    async def plan(self, context: PlanningContext, worker: int, sent: float | None = None) -> PlanAnswer:
        """Actions for a worker's environments, and the version of the weights that chose them.

        `sent`: when the worker sent the request, seconds since 1970; None: just now. Statistics alone depend on it.
        """
        now = time.monotonic()
        self._note_missed_batches(len(context), time.time() if sent is None else sent)
        self._company.note_request(worker, now)
        request = _Request(context, worker, asyncio.get_running_loop().create_future(), now)
        self._waiting.append(request)
        self._consider()
        return await request.answer

    def values(self) -> dict[str, float]:
        """Since the last question: rows a batch, seconds computing and waiting, decisions; and what holds now.

        `batch_N` counts the batches so far of up to N rows and more than half of it. `batch_fill`: rows of the batches
        over the rows that waited or were under way to this planner when they left, by the clocks of who sent them.
        """
        batches, elapsed = max(self._batches, 1), max(time.monotonic() - self._since, 1e-9)
        values = {
            "batch_mean": self._rows / batches,
            "batch_fill": self._rows / max(self._rows + self._missed_rows, 1),
            "batch_ms": 1000.0 * self._compute_seconds / batches,
            "wait_ms": 1000.0 * self._wait_total / max(self._requests, 1),
            "busy": min(1.0, self._compute_seconds / elapsed),  # a batch counts when it ends
            "decisions_per_second": self._rows / elapsed,
            "queue": float(sum(len(request.context) for request in self._waiting)),
            "weight_version": float(self._service.version),
        }
        self._reset_statistics()
        return values | {f"batch_{size}": float(count) for size, count in sorted(self._histogram.items())}

    @ray.method(concurrency_group=CONTROL)
    async def set_weights(self, boxed: list[ray.ObjectRef]) -> int:
        """Take over published weights, given as a boxed reference; returns their version."""
        weights = await boxed[0]
        await asyncio.get_running_loop().run_in_executor(self._executor, self._service.set_weights, weights)
        return self._service.version

    def _note_missed_batches(self, rows: int, sent: float) -> None:
        """Count a request for every batch that left while it was under way."""
        for start in reversed(self._starts):
            if start < sent:
                break
            self._missed_rows += rows

    def _consider(self) -> None:
        """Send off what waits, if it is time."""
        if self._computing or not self._waiting:
            return
        now = time.monotonic()
        rows = sum(len(request.context) for request in self._waiting)
        left = self._wait_seconds - (now - max(self._waiting[0].arrived, self._idle_since))
        asking = {request.worker for request in self._waiting}
        if rows >= self._target_rows or left <= 0.0 or not self._company.is_coming(asking, now, left):
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._consider()

    def _flush(self) -> None:
        requests, self._waiting = self._waiting, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._computing = True
        task = asyncio.get_running_loop().create_task(self._compute(requests))
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _compute(self, requests: list[_Request]) -> None:
        started = time.monotonic()
        self._starts.append(time.time())
        joined = concatenate_contexts([request.context for request in requests])
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._executor, self._service.plan, joined)
        except Exception as error:
            for request in requests:
                request.answer.set_exception(error)
        else:
            first = 0
            for request in requests:
                request.answer.set_result(answer.rows(first, first + len(request.context)))
                first += len(request.context)
        self._idle_since = time.monotonic()
        for request in requests:
            self._company.note_answer(request.worker, self._idle_since)
        self._batches += 1
        self._rows += len(joined)
        bucket = 1 << (len(joined) - 1).bit_length()
        self._histogram[bucket] = self._histogram.get(bucket, 0) + 1
        self._requests += len(requests)
        self._compute_seconds += self._idle_since - started
        self._wait_total += sum(started - request.arrived for request in requests)
        self._computing = False
        self._consider()

    def _reset_statistics(self) -> None:
        self._batches = self._rows = self._missed_rows = self._requests = 0
        self._compute_seconds = self._wait_total = 0.0
        self._since = time.monotonic()
