"""What the planner answers: actions, and on request what was considered and how the choice came about."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PlanDetails:
    """What was considered. Axis of steps: the longest window of the call, NaN beyond an environment's own H = T - t.

    Args:
        candidates: (B, N, H, action_dim), actions t..T-1.
        utilities: (B, N), eq. 3.
        probabilities: (B, N), eq. 4.
        predicted_states: (B, N, H - 1, observation_dim), raw units; [..., k, :] is the state at t + 1 + k.
        predicted_rewards: (B, N, h), raw units; [..., k] is the reward at t + k.
        terminal_values: (B, N, h); [..., n] is g_{t+n}, or min(Q1, Q2)(s_{t+n}, a_{t+n}).
        effective_sample_size: (B,), 1 / sum P².
        chosen: (B,), index of the sampled candidate; -1 where the first actions were averaged.
        planned: (B, 1, H, action_dim), the sequence chosen: the sampled candidate, or the average of all steps as
            `planner.average` makes it of the first. [..., 0, :] is the action played; the others are planned anew.
    """

    candidates: NDArray[np.float32]
    utilities: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    predicted_states: NDArray[np.float32]
    predicted_rewards: NDArray[np.float32]
    terminal_values: NDArray[np.float32]
    effective_sample_size: NDArray[np.float32]
    chosen: NDArray[np.int64]
    planned: NDArray[np.float32]


@dataclass(frozen=True)
class PlanRecord:
    """What the choice was made from, and what its rounding depended on. Candidates follow from the context's keys.

    Environments at the same position of their windows are computed together; where a row stands among how many decides
    the shapes of the matrix products, and with them the last bits.

    Args:
        utilities: (B, N), eq. 3; (B, 0) with guide `none`.
        chosen: (B,), index of the sampled candidate; -1 where none was.
        batch_rows: (B,), environments computed together with this one, itself included.
        batch_row: (B,), its place among them.
    """

    utilities: NDArray[np.float32]
    chosen: NDArray[np.int64]
    batch_rows: NDArray[np.int64]
    batch_row: NDArray[np.int64]

    @classmethod
    def of(cls, utilities: NDArray[np.float32], chosen: NDArray[np.int64]) -> PlanRecord:
        """The record of environments that were computed together."""
        batch = len(utilities)
        return cls(utilities, chosen, np.full(batch, batch, dtype=np.int64), np.arange(batch, dtype=np.int64))


@dataclass(frozen=True)
class Plan:
    """Actions (B, action_dim) in (-1, 1), and what was asked for beside them."""

    actions: NDArray[np.float32]
    details: PlanDetails | None = None
    record: PlanRecord | None = None

    def first_rows(self, count: int) -> Plan:
        """Without what was computed for rows after the first `count`."""
        if len(self.actions) == count:
            return self
        return Plan(
            self.actions[:count],
            None if self.details is None else _first_rows(self.details, count),
            None if self.record is None else _first_rows(self.record, count),
        )


def merge_plans(plans: list[Plan], groups: list[NDArray[np.int64]]) -> Plan:
    """One plan from those of groups of rows, with the rows in the context's order."""
    if len(plans) == 1:
        return plans[0]
    order = np.argsort(np.concatenate(groups))
    actions = np.concatenate([plan.actions for plan in plans])[order]
    details = [plan.details for plan in plans if plan.details is not None]
    records = [plan.record for plan in plans if plan.record is not None]
    return Plan(
        actions,
        _merge_fields(details, order) if details else None,
        _merge_fields(records, order) if records else None,
    )


Part = TypeVar("Part", PlanDetails, PlanRecord)


def _first_rows(part: Part, count: int) -> Part:
    return type(part)(**{field.name: getattr(part, field.name)[:count] for field in fields(part)})


def _merge_fields(parts: list[Part], order: NDArray[np.int64]) -> Part:
    merged = {
        field.name: _concatenate([getattr(part, field.name) for part in parts])[order] for field in fields(parts[0])
    }
    return type(parts[0])(**merged)


def _concatenate(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenation along the first axis; the axis of steps (the third) is padded with NaN to the longest."""
    if parts[0].ndim > 2:
        longest = max(part.shape[2] for part in parts)
        parts = [
            np.pad(
                part,
                [(0, longest - part.shape[2]) if axis == 2 else (0, 0) for axis in range(part.ndim)],
                constant_values=np.nan,
            )
            for part in parts
        ]
    return np.concatenate(parts)
