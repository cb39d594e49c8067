"""How many rollout workers one planner feeds: a model on paper of which all parameters are measured.

A planner computes a batch of n environments in a + b n seconds. A worker steps its E environments one after another, s
seconds each, in two lanes: while one lane is stepped, the other one's request is on its way, computed and answered.

    lane 1   |--- stepped: s E/2 ---|-- call: c --|-- planned: a + b n --| waits |--- stepped ...
    lane 2   | planned ... | waits  |--- stepped: s E/2 ---|-- call: c --|-- planned ...

Simulation is the limit as long as a plan is there when the other lane has been stepped, c + a + b n <= s E/2. Planner
and workers then run at W / s steps a second. With the lanes of all W workers in one batch, n = W E/2, the most workers
for which that holds are

    W* = (s - 2 (a + c) / E) / b

A worker of one environment has nothing to overlap with: its round takes s + c + a + b n.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from m3pc_ray.online.plan_service import PlanService
from m3pc_ray.planning.context import PlanningContext

ROWS = (1, 2, 4, 8, 16, 32)
"""Batches that are timed."""


@dataclass(frozen=True)
class PlannerTime:
    """Seconds of a batch of n environments: `fixed` + `per_row` n."""

    fixed: float
    per_row: float

    def of(self, rows: float) -> float:
        return self.fixed + self.per_row * rows


def fit(rows: Sequence[int], seconds: Sequence[float]) -> PlannerTime:
    """Least squares of relative errors, so that small batches count as much as large ones; neither part below 0."""
    n, measured = np.asarray(rows, dtype=float), np.asarray(seconds, dtype=float)
    design = np.stack([1.0 / measured, n / measured], axis=1)
    fixed, per_row = np.linalg.lstsq(design, np.ones(len(n)), rcond=None)[0]
    if fixed < 0.0:
        fixed, per_row = 0.0, float(np.mean(measured / n))
    return PlannerTime(float(fixed), float(per_row))


def predicted_rate(
    workers: int, environments: int, step_seconds: float, call_seconds: float, planner: PlannerTime
) -> tuple[float, str]:
    """Environment steps a second of `workers` with `environments` each, and what limits them.

    Returns:
        The rate, and `simulation`, `latency` (a plan comes later than the other lane has been stepped) or `planner`
        (it computes all the time).
    """
    if environments == 1:
        # The workers' rounds fall together as far as the planner makes them wait for each other.
        plan = call_seconds + planner.of(workers)
        rates = {"latency": workers / (step_seconds + plan), "planner": workers / planner.of(workers)}
    else:
        rows = workers * environments / 2.0
        lane = step_seconds * environments / 2.0
        rates = {
            "simulation": workers / step_seconds,
            "latency": workers * environments / (lane + call_seconds + planner.of(rows)),
            "planner": rows / planner.of(rows),
        }
    limit = min(rates, key=lambda name: rates[name])
    return rates[limit], limit


def workers_fed(environments: int, step_seconds: float, call_seconds: float, planner: PlannerTime) -> float:
    """W*: the most workers that do not wait for the planner; 0 where already one does."""
    spare = step_seconds - 2.0 * (planner.fixed + call_seconds) / environments
    return max(0.0, spare / planner.per_row)


def measure_planner(
    service: PlanService, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Median seconds of a batch of each of ROWS environments in mid-episode, timed in turn for so many seconds."""
    times: dict[int, list[float]] = {rows: [] for rows in ROWS}
    contexts = {rows: _context(service, rows) for rows in ROWS}
    ends = clock() + seconds
    while clock() < ends or len(times[ROWS[-1]]) < 4:
        for rows, context in contexts.items():
            began = clock()
            service.plan(context)
            times[rows].append(clock() - began)
    return [float(np.median(times[rows][1:])) for rows in ROWS]  # the first call fills caches


def _context(service: PlanService, rows: int) -> PlanningContext:
    rng = np.random.default_rng(0)
    planner = service.planner
    length = planner.config.context_length
    observation_dim, action_dim = planner.model.observation_dim, planner.model.action_dim
    return PlanningContext(
        observations=rng.normal(size=(rows, length + 1, observation_dim)).astype(np.float32),
        actions=rng.uniform(-0.9, 0.9, size=(rows, length, action_dim)).astype(np.float32),
        timesteps=np.full(rows, 50, dtype=np.int64),
        keys=np.array([(0, row, 50) for row in range(rows)], dtype=np.uint64),
    )
