"""Which steps have a value: a bool per step and modality, or None where every step has one.

Complete data is the common case and pays nothing: no memory, and every reader of `None` takes the path it always took.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Known = NDArray[np.bool_] | None
"""(steps,) True where the value is known; None: known everywhere."""


def normalise(known: ArrayLike | None, steps: int) -> Known:
    """`known` as an array of its own, None where it says True throughout. Raises ValueError for another shape."""
    if known is None:
        return None
    flags = np.ascontiguousarray(known, dtype=bool)
    if flags.shape != (steps,):
        raise ValueError(f"{flags.shape} flags do not fit {steps} steps")
    return None if flags.all() else flags


def blank(values: NDArray[np.float32], known: Known) -> NDArray[np.float32]:
    """`values` (steps, ...) with 0 where they are unknown; the same array where nothing has to change."""
    if known is None or not np.any(values[~known]):  # NaN counts as something
        return values
    return np.where(known.reshape(-1, *(1,) * (values.ndim - 1)), values, np.float32(0.0))


def from_nan(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], Known]:
    """(values with 0 where unknown, known) of values (steps,) or (steps, dim): a step of NaN alone is unknown."""
    missing = np.isnan(values) if values.ndim == 1 else np.isnan(values).all(axis=1)
    known = normalise(~missing, len(values))
    return blank(values, known), known


def to_nan(values: NDArray[np.float32], known: Known) -> NDArray[np.float32]:
    """The inverse of `from_nan`."""
    if known is None:
        return values
    return np.where(known.reshape(-1, *(1,) * (values.ndim - 1)), values, np.float32(np.nan))


def spread(values: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[Any]:
    """(steps, ...) that holds `values` (known steps, ...) where known, 0 elsewhere."""
    filled = np.zeros((len(known), *values.shape[1:]), dtype=values.dtype)
    filled[known] = values
    return filled


def flags_of(known: Known, steps: int) -> NDArray[np.bool_]:
    """(steps,) always an array."""
    return np.ones(steps, dtype=bool) if known is None else known


def both(one: Known, other: Known) -> Known:
    """Where both are known."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


def take(known: Known, rows: NDArray[np.int64]) -> Known:
    """Of some rows, in their order."""
    return None if known is None else known[rows]


def join(parts: Sequence[tuple[Known, int]]) -> Known:
    """Of several (known, steps), one after another."""
    if all(known is None for known, _ in parts):
        return None
    return np.concatenate([flags_of(known, steps) for known, steps in parts])


def whole_rest(known: NDArray[np.bool_], episode_starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(steps,) True where this and every later step of the episode is known."""
    missing = np.append(np.cumsum(~known), 0)  # a step before row 0 is index -1: none is missing
    until_end = np.repeat(missing[episode_starts[1:] - 1], np.diff(episode_starts))
    return np.asarray(until_end - missing[np.arange(len(known)) - 1] == 0)


def whole_past(known: NDArray[np.bool_], timesteps: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    """(steps,) True where this step is known and so are the `length` before it, as far as the episode has them."""
    missing = np.append(np.cumsum(~known), 0)
    rows = np.arange(len(known))
    return np.asarray(missing[rows] - missing[rows - np.minimum(timesteps, length) - 1] == 0)


def whole_episodes(known: Known, episode_starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(episodes,) True where every step is known."""
    if known is None:
        return np.ones(len(episode_starts) - 1, dtype=bool)
    return np.asarray(np.logical_and.reduceat(known, episode_starts[:-1]))
