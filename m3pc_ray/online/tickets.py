"""Step tickets: leases of environment steps, so that a run takes exactly as many as it was given."""

from __future__ import annotations


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

    def lease(self, count: int) -> tuple[int, int] | None:
        """(lease id, tickets) of at most `count` tickets; None where none can be had."""
        count = min(count, self.free)
        if count <= 0:
            return None
        lease, self._next_lease = self._next_lease, self._next_lease + 1
        self._leases[lease] = count
        return lease, count

    def settle(self, lease: int, used: int) -> None:
        """Close a lease of which `used` steps were taken.

        Raises:
            ValueError: more used than leased.
            KeyError: no such lease, or settled before.
        """
        if not 0 <= used <= self._leases[lease]:
            raise ValueError(f"lease {lease} of {self._leases[lease]} steps settled with {used}")
        del self._leases[lease]
        self.taken += used
