"""What a decision depended on, kept beside the step it chose, and its Arrow form.

With the weights it names, a record is all that `m3pc explain` needs to compute the decision again; the planner's
settings stand in the fragment already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.planning.plan import PlanRecord


@dataclass(frozen=True)
class Computation:
    """What computes decisions: whose weights, and what their rounding depends on.

    `weights_fingerprint` names the weights by their bytes: after a crash two different sets may bear one version.
    """

    weight_version: int
    weights_fingerprint: int
    precision: str
    """Number format of matrix products: float32 or bfloat16."""
    device: str
    """torch device."""
    threads: int
    """CPU threads of torch."""


@dataclass(frozen=True)
class DecisionRecords:
    """Records of B decisions; every field is an array with a row for each.

    Args:
        observations, actions, timesteps, keys: the `PlanningContext` as the planner was given it.
        utilities, chosen, batch_rows, batch_row: see `PlanRecord`.
        weight_version, weights_fingerprint, precision, device, threads: see `Computation`.
    """

    observations: NDArray[np.float32]  # (B, context_length + 1, observation_dim)
    actions: NDArray[np.float32]  # (B, context_length, action_dim)
    timesteps: NDArray[np.int64]
    keys: NDArray[np.uint64]  # (B, 3)
    utilities: NDArray[np.float32]  # (B, N)
    chosen: NDArray[np.int64]
    batch_rows: NDArray[np.int64]
    batch_row: NDArray[np.int64]
    weight_version: NDArray[np.int64]
    weights_fingerprint: NDArray[np.uint64]
    precision: NDArray[np.str_]
    device: NDArray[np.str_]
    threads: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.timesteps)

    @classmethod
    def of(cls, context: PlanningContext, record: PlanRecord, by: Computation) -> DecisionRecords:
        """The records of one call of the planner."""
        batch = len(context)
        return cls(
            observations=context.observations,
            actions=context.actions,
            timesteps=context.timesteps,
            keys=context.keys,
            utilities=record.utilities,
            chosen=record.chosen,
            batch_rows=record.batch_rows,
            batch_row=record.batch_row,
            weight_version=np.full(batch, by.weight_version),
            weights_fingerprint=np.full(batch, by.weights_fingerprint, dtype=np.uint64),
            precision=np.full(batch, by.precision),
            device=np.full(batch, by.device),
            threads=np.full(batch, by.threads),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[DecisionRecords]) -> DecisionRecords:
        """All rows of the parts, in order."""
        return cls(**{field.name: np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(cls)})

    def rows(self, first: int, last: int) -> DecisionRecords:
        """Rows `first` to `last` - 1; views, not copies."""
        return DecisionRecords(**{field.name: getattr(self, field.name)[first:last] for field in fields(self)})

    def context(self) -> PlanningContext:
        """What the planner was given."""
        return PlanningContext(self.observations, self.actions, self.timesteps, self.keys)


def decisions_type(observation_dim: int, action_dim: int) -> pa.DataType:
    """Arrow type of a fragment's decisions: a list with one struct a step; null where nothing was recorded."""
    return pa.list_(
        pa.struct(
            [
                ("observations", pa.list_(pa.list_(pa.float32(), observation_dim))),
                ("actions", pa.list_(pa.list_(pa.float32(), action_dim))),
                ("timesteps", pa.int64()),
                ("keys", pa.list_(pa.uint64(), 3)),
                ("utilities", pa.list_(pa.float32())),
                ("chosen", pa.int32()),
                ("batch_rows", pa.int32()),
                ("batch_row", pa.int32()),
                ("weight_version", pa.int64()),
                ("weights_fingerprint", pa.uint64()),
                ("precision", pa.string()),
                ("device", pa.string()),
                ("threads", pa.int32()),
            ]
        )
    )


def to_arrow(decisions: Sequence[DecisionRecords | None], kind: pa.DataType) -> pa.Array:
    """One element a fragment, of the type `decisions_type`."""
    present = [records for records in decisions if records is not None]
    offsets = np.cumsum([0] + [0 if records is None else len(records) for records in decisions]).astype(np.int32)
    columns = [_column([getattr(records, field.name) for records in present], field.type) for field in kind.value_type]
    values = pa.StructArray.from_arrays(columns, fields=list(kind.value_type))
    missing = pa.array([records is None for records in decisions])
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind, mask=missing)


def from_arrow(column: pa.Array) -> list[DecisionRecords | None]:
    """The decisions of `to_arrow`, in order."""
    return [_records(element.values) if element.is_valid else None for element in column]


def _column(arrays: list[np.ndarray], kind: pa.DataType) -> pa.Array:
    """The rows of all arrays as one column of plain values, vectors, or lists of either."""
    if not arrays:
        return pa.array([], kind)
    if not pa.types.is_list(kind):
        return _vectors(np.concatenate(arrays), kind)
    lengths = np.concatenate([np.full(len(array), array.shape[1]) for array in arrays])
    flat = np.concatenate([array.reshape(-1, *array.shape[2:]) for array in arrays])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), _vectors(flat, kind.value_type), type=kind)


def _vectors(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), kind.value_type), type=kind)
    return pa.array(values, kind)


def _records(steps: pa.StructArray) -> DecisionRecords:
    """The records of one fragment, from its structs."""
    return DecisionRecords(**{field.name: _array(steps.field(field.name)) for field in fields(DecisionRecords)})


def _array(column: pa.Array) -> np.ndarray:
    """(rows, ...) of a column of `_column` whose lists all have the same length."""
    shape: tuple[int, ...] = (len(column),)
    if pa.types.is_list(column.type):
        column, shape = column.flatten(), (*shape, -1)
    if pa.types.is_fixed_size_list(column.type):
        shape = (*shape, column.type.list_size)
        column = column.flatten()
    if pa.types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=np.str_)
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    if pa.types.is_int32(column.type):
        values = values.astype(np.int64)
    return values.reshape(shape)
