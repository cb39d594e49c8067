"""What a check finds: rows, and the promise that a check which fails is a row too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failure", "not checked"]


@dataclass(frozen=True)
class Row:
    """One finding."""

    name: str
    """Check and what it looked at: `gpu`, `data bundled/hopper`."""
    status: Status
    """failure: something will not work; warning: it may work, but not as expected; not checked: `found` says why."""
    found: str
    """What is there, with the numbers."""
    advice: str = ""
    """What to do about it; empty where there is nothing to do."""


def guarded(name: str, check: Callable[[], Sequence[Row]]) -> list[Row]:
    """The rows of a check; an exception that it lets through becomes a failure of that name."""
    try:
        return list(check())
    except Exception as error:
        reason = " ".join(str(error).split())
        kind = type(error).__name__
        return [Row(name, "failure", reason if kind == "UserError" else f"{kind}: {reason}" if reason else kind)]


def has_failure(rows: Sequence[Row]) -> bool:
    """Whether any row is a failure."""
    return any(row.status == "failure" for row in rows)


def worst(statuses: Sequence[Status]) -> Status:
    """The gravest of some statuses; `ok` for none."""
    order: tuple[Status, ...] = ("failure", "warning", "not checked", "ok")
    return next((status for status in order if status in statuses), "ok")
