"""Leases of workers that die: what the log has was taken, everything else is free again."""

import numpy as np
import pytest

from actors.worker_leases import LEASES_IN_FLIGHT, WorkerLeases
from m3pc_ray.online.replay.rate_limiter import RateLimiter
from m3pc_ray.online.tickets import StepTickets


def test_lost_leases_are_settled_by_the_log():
    tickets = StepTickets(100)
    leases = WorkerLeases(tickets, [0, 0])
    first, second, other = leases.grant(0, 10), leases.grant(0, 10), leases.grant(1, 10)
    leases.settle(1, other, 10)
    leases.lose(0, first)
    assert leases.wanting() == [1, 1]
    leases.lose(0, second)
    assert leases.recover(0, logged=13) == 7
    assert (tickets.taken, tickets.outstanding, tickets.free) == (23, 0, 77)
    assert leases.wanting() == [0, 1, 0, 1]


def test_more_steps_than_leased_is_an_error():
    leases = WorkerLeases(StepTickets(100), [5])
    lease = leases.grant(0, 10)
    leases.lose(0, lease)
    with pytest.raises(ValueError, match="logged 11 steps on lost leases of 10"):
        leases.recover(0, logged=16)


def test_random_deaths_never_lose_or_invent_a_ticket():
    rng = np.random.default_rng()
    tickets, workers = StepTickets(500), 3
    leases, logged, held = WorkerLeases(tickets, [0] * workers), [0] * workers, [[] for _ in range(workers)]
    while not tickets.finished:
        for worker in leases.wanting():
            lease = leases.grant(worker, int(rng.integers(1, 20)))
            if lease is not None:
                held[worker].append(lease)
        assert max(map(len, held)) <= LEASES_IN_FLIGHT
        worker = int(rng.integers(workers))
        if rng.random() < 0.3:
            logged[worker] += int(rng.integers(sum(lease.steps for lease in held[worker]) + 1))
            for lease in held[worker]:
                leases.lose(worker, lease)
            held[worker] = []
            leases.recover(worker, logged[worker])
        elif held[worker]:
            lease = held[worker].pop(0)
            logged[worker] += lease.steps
            leases.settle(worker, lease, lease.steps)
        assert tickets.taken == sum(logged)
    assert sum(logged) == 500


@pytest.mark.parametrize(
    "taken, total, limit, size",
    [
        (0, 1000, 45, 45),  # nothing raises the limit before the first update, at step 45
        (40, 1000, 45, 5),
        (45, 1000, 45, 0),
        (60, 1000, 61, 0),  # a sliver: the learner will allow more
        (60, 1000, 110, 50),
        (60, 1000, 500, 50),
        (990, 1000, 1000, 10),  # the last steps of the run
        (1000, 1000, 1000, 0),
    ],
)
def test_leases_are_whole_while_the_learner_raises_the_limit(taken, total, limit, size):
    leases = WorkerLeases(StepTickets(total, taken), [taken, 0])
    assert leases.next_size(50, limit, start_steps=45) == size


@pytest.mark.parametrize("ratio, tolerance, start", [(0.1, 48, 40), (2.0, 400, 1000), (0.001, 48, 0), (1.0, 1, 7)])
def test_whole_leases_never_wait_for_ever(ratio, tolerance, start):
    """Learner and workers in turn, each as far as it may: every step is taken, however they are limited."""
    limiter = RateLimiter(2003, {"btm": ratio, "critic": 0.0}, start, tolerance)
    tickets = StepTickets(2003)
    leases, size = WorkerLeases(tickets, [0, 0]), max(1, tolerance // 8)
    for _ in range(10_000):
        updates = {kind: done + limiter.permitted_updates()[kind] for kind, done in limiter.updates.items()}
        limiter.record_updates(updates)
        for worker in leases.wanting():
            lease = leases.grant(worker, leases.next_size(size, limiter.step_limit(), start))
            if lease is not None:
                limiter.record_steps(lease.steps)
                leases.settle(worker, lease, lease.steps)
        if tickets.finished:
            break
    assert limiter.steps == 2003
