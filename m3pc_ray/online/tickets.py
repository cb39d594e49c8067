"""Step tickets: leases of environment steps, so that a run takes exactly as many as it was given."""

from __future__ import annotations

from typing import NamedTuple


class Lease(NamedTuple):
    """Permission to take some environment steps."""

    number: int
    steps: int


class StepTickets:
    """The budget of environment steps, leased in parts.

    A lease is settled with the steps truly taken; what was not used returns to the budget.
    At every moment taken + outstanding + free = total.
    """

    def __init__(self, total: int, taken: int = 0) -> None:
        if not 0 <= taken <= total:
            raise ValueError(f"{taken} steps taken of {total}")
        self.total = total
        self.taken = taken
        self._leases: dict[int, int] = {}
        self._next_lease = 0

    @property
    def outstanding(self) -> int:
        """Tickets leased and not settled."""
        return sum(self._leases.values())

    @property
    def free(self) -> int:
        """Tickets that can be leased."""
        return self.total - self.taken - self.outstanding

    @property
    def granted(self) -> int:
        """Steps that are taken or may be taken on a lease now."""
        return self.taken + self.outstanding

    @property
    def finished(self) -> bool:
        return self.taken == self.total

    def lease(self, count: int) -> Lease | None:
        """A lease of at most `count` steps; None where no step can be had."""
        count = min(count, self.free)
        if count <= 0:
            return None
        lease = Lease(self._next_lease, count)
        self._leases[lease.number] = lease.steps
        self._next_lease += 1
        return lease

    def settle(self, lease: Lease, used: int) -> None:
        """Close a lease of which `used` steps were taken.

        Raises:
            ValueError: more used than leased.
            KeyError: no such lease, or settled before.
        """
        if not 0 <= used <= self._leases[lease.number]:
            raise ValueError(f"lease {lease.number} of {lease.steps} steps settled with {used}")
        del self._leases[lease.number]
        self.taken += used
