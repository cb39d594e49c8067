"""Several processes work through one list: what another is at is left to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from rich.console import Console

from m3pc_ray.training.run_folder import Locked

Item = TypeVar("Item")


def work_through(
    items: Sequence[Item],
    attempt: Callable[[Item, int, Sequence[Item]], None],
    is_missing: Callable[[Item], bool],
    console: Console,
) -> list[Item]:
    """Makes the items that are missing; returns those that other processes are at.

    Args:
        items: what to make, in order.
        attempt: makes an item; told its number in this round, from 1 on, and all items of the round. Raises Locked
            where another process is at it, or at what it needs.
        is_missing: whether an item is still to be made.
        console: told what is left to others.
    """
    waiting = list(items)
    while waiting:
        busy = []
        for number, item in enumerate(waiting, 1):
            try:
                attempt(item, number, waiting)
            except Locked as error:
                console.print(f"{str(error).partition(';')[0]}: left to that process", highlight=False)
                busy.append(item)
        if len(busy) == len(waiting):
            break
        # What others were at may be finished by now, or may have been what an item here waits for.
        waiting = [item for item in busy if is_missing(item)]
    return waiting
