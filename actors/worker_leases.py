"""Who holds which leases of steps, and how those of a worker that died are settled."""

from __future__ import annotations

from collections.abc import Sequence

from m3pc_ray.online.tickets import Lease, StepTickets

LEASES_IN_FLIGHT = 2
"""Leases a worker may hold: one it works on, one that waits, so that it never idles between two."""


class WorkerLeases:
    """Leases by worker.

    A worker that dies leaves leases of which nobody can say how much was done, but the replay's log: every logged step
    was taken on a ticket, every other was lost with its process and its ticket is free again.

    Args:
        tickets: the run's budget.
        logged: steps in the log by worker, when the run starts.
    """

    def __init__(self, tickets: StepTickets, logged: Sequence[int]) -> None:
        self.tickets = tickets
        self._logged = list(logged)
        self._held: list[list[Lease]] = [[] for _ in logged]
        self._lost: list[list[Lease]] = [[] for _ in logged]

    @property
    def someone_idle(self) -> bool:
        """Whether a worker that is well holds no lease."""
        return any(not held and not lost for held, lost in zip(self._held, self._lost, strict=True))

    def wanting(self) -> list[int]:
        """Workers that can be given a lease, each named once for every lease; those that hold none come first."""
        order = []
        for depth in range(LEASES_IN_FLIGHT):
            for worker, held in enumerate(self._held):
                if len(held) <= depth and not self._lost[worker]:
                    order.append(worker)
        return order

    def holds(self, worker: int) -> bool:
        """Whether calls of this worker are still unanswered."""
        return bool(self._held[worker])

    def is_lost(self, worker: int) -> bool:
        """Whether the worker died with leases that `recover` has not settled yet."""
        return bool(self._lost[worker])

    def next_size(self, size: int, limit: int, start_steps: int) -> int:
        """Steps the next lease may have; 0: better wait.

        Once updates are done, the limit rises with them little by little. Leases of whatever it leaves would end all
        alike with a few steps: small planning batches, and a fragment of every environment each time. Whole ones come
        without fail, for the learner may run ahead by more than one. Before the first update nothing raises the limit.

        Args:
            size: of a whole lease.
            limit: steps of the run that may have been granted by now.
            start_steps: steps before the first update.
        """
        allowed = limit - self.tickets.granted
        if allowed < min(size, self.tickets.free) and self.tickets.granted >= start_steps:
            return 0
        return min(size, allowed)

    def grant(self, worker: int, count: int) -> Lease | None:
        """A lease of at most `count` steps; None where no step can be had."""
        lease = self.tickets.lease(count)
        if lease is not None:
            self._held[worker].append(lease)
        return lease

    def settle(self, worker: int, lease: Lease, steps: int) -> None:
        """The worker has taken so many steps on a lease, all of them logged."""
        self._held[worker].remove(lease)
        self.tickets.settle(lease, steps)
        self._logged[worker] += steps

    def lose(self, worker: int, lease: Lease) -> None:
        """The worker died with this lease."""
        self._held[worker].remove(lease)
        self._lost[worker].append(lease)

    def recover(self, worker: int, logged: int) -> int:
        """The worker is back and has `logged` steps in the log; returns the tickets that are free again.

        Raises:
            ValueError: the log has more steps than the lost leases allowed.
        """
        used = logged - self._logged[worker]
        allowed = sum(lease.steps for lease in self._lost[worker])
        if not 0 <= used <= allowed:
            raise ValueError(f"worker {worker} logged {used} steps on lost leases of {allowed}")
        for lease in self._lost[worker]:
            taken = min(used, lease.steps)
            self.tickets.settle(lease, taken)
            used -= taken
        self._lost[worker].clear()
        free = allowed - (logged - self._logged[worker])
        self._logged[worker] = logged
        return free
