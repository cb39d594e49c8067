"""The model on paper of how many workers a planner feeds, against a simulation of workers, lanes and planner."""

import heapq
import itertools

import numpy as np
import pytest

from m3pc_ray.benchmarks.planner_feed import (
    ROWS,
    PlannerTime,
    fit,
    measure_planner,
    predicted_rate,
    workers_fed,
)
from m3pc_ray.online.roles import make_plan_service
from tests.online.factory import make_pretrained_run

STEP, CALL = 0.02, 0.0015


def simulated_rate(workers: int, environments: int, planner: PlannerTime, seconds: float = 60.0) -> float:
    """Steps a second of workers as in actors/rollout_worker.py with a planner that takes all that waits when idle."""
    lanes = 2 if environments > 1 else 1
    rows = environments / lanes
    order, events = itertools.count(), []
    waiting: list[tuple[int, int]] = []
    answered: dict[int, list[int]] = {worker: [] for worker in range(workers)}
    stepping, computing, steps = set(), False, 0.0
    for worker in range(workers):
        for lane in range(lanes):
            start = STEP * environments * worker / workers  # not all at the same moment
            heapq.heappush(events, (start, next(order), "arrives", worker, lane))
    now = 0.0
    while now < seconds:
        now, _, what, worker, lane = heapq.heappop(events)
        if what == "arrives":
            waiting.append((worker, lane))
        elif what == "answers":
            answered[worker].append(lane)
        elif what == "idle":
            computing = False
        else:
            stepping.discard(worker)
            steps += rows
            heapq.heappush(events, (now + CALL / 2, next(order), "arrives", worker, lane))
        if answered[worker] and worker not in stepping:
            stepping.add(worker)
            lane = answered[worker].pop(0)
            heapq.heappush(events, (now + STEP * rows, next(order), "stepped", worker, lane))
        if waiting and not computing:
            computing, batch, waiting = True, waiting, []
            done = now + planner.of(rows * len(batch))
            heapq.heappush(events, (done, next(order), "idle", batch[0][0], 0))
            for asker, its_lane in batch:
                heapq.heappush(events, (done + CALL / 2, next(order), "answers", asker, its_lane))
    return steps / now


@pytest.mark.parametrize(
    "workers, environments, planner, limit",
    [
        (1, 1, PlannerTime(0.004, 0.007), "latency"),
        (1, 4, PlannerTime(0.004, 0.007), "simulation"),
        (4, 16, PlannerTime(0.0, 0.0001), "simulation"),
        (4, 16, PlannerTime(0.004, 0.007), "planner"),
        (2, 8, PlannerTime(0.004, 0.03), "planner"),
        (16, 32, PlannerTime(0.01, 0.001), "simulation"),
        (40, 32, PlannerTime(0.01, 0.001), "planner"),
    ],
)
def test_the_prediction_is_what_a_simulation_of_the_roles_gives(workers, environments, planner, limit):
    rate, what = predicted_rate(workers, environments, STEP, CALL, planner)
    assert what == limit
    assert rate == pytest.approx(simulated_rate(workers, environments, planner), rel=0.1)


def test_workers_wait_from_the_number_on_that_a_planner_feeds():
    planner = PlannerTime(0.01, 0.001)
    fed = workers_fed(32, STEP, CALL, planner)
    assert fed == pytest.approx((STEP - 2 * (0.01 + CALL) / 32) / 0.001)
    assert predicted_rate(int(fed), 32, STEP, CALL, planner) == (pytest.approx(int(fed) / STEP), "simulation")
    assert predicted_rate(int(fed) + 1, 32, STEP, CALL, planner)[1] != "simulation"
    assert workers_fed(2, STEP, CALL, PlannerTime(1.0, 0.001)) == 0.0


def test_a_and_b_are_found_again():
    exact = fit(ROWS, [0.004 + 0.007 * rows for rows in ROWS])
    assert (exact.fixed, exact.per_row) == (pytest.approx(0.004), pytest.approx(0.007))
    noise = np.random.default_rng(0).uniform(0.95, 1.05, len(ROWS))
    noisy = fit(ROWS, [(0.004 + 0.007 * rows) * factor for rows, factor in zip(ROWS, noise, strict=True)])
    assert noisy.per_row == pytest.approx(0.007, rel=0.1)
    assert fit((1, 2), (0.01, 0.03)) == PlannerTime(0.0, pytest.approx(0.0125))


def test_the_planner_of_a_run_is_timed(tmp_path):
    seconds = measure_planner(make_plan_service(make_pretrained_run(tmp_path), "cpu"), 0.05)
    assert len(seconds) == len(ROWS)
    assert all(0.0 < value < 5.0 for value in seconds)
