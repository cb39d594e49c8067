"""Leases of workers that die: what the log has was taken, everything else is free again."""

import numpy as np
import pytest

from actors.worker_leases import LEASES_IN_FLIGHT, WorkerLeases
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
