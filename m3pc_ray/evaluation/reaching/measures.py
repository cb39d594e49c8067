"""How closely an episode followed what was wanted, in standard deviations of the data.

wanted   w0  w1  w2  w3  w4  w5     one row a step of the plan; NaN: nothing is wanted of that entry
reached  r0  r1  r2                 the episode terminated after two steps
compared r0  r1  r2  r2  r2  r2     the last state stands for all that never came

So a robot that falls scores as one that stands still in its last pose to the end of the plan: falling early leaves no
wanted state out of the mean.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.goals.success import WAYPOINT_TOLERANCE, waypoint_errors


def tracking_error(reached: NDArray[np.float32], wanted: NDArray[np.float32], std: NDArray[np.float32]) -> float:
    """Root mean square of (reached - wanted) / std over all wanted entries; NaN where nothing is wanted.

    Args:
        reached: (steps + 1, observation_dim) raw units, from the first observation on.
        wanted: (planned steps + 1, observation_dim) raw units, NaN where nothing is wanted; at least as long as
            `reached`, and as long as the plan even when the episode ended before.
        std: (observation_dim,) standard deviation of the data.
    """
    errors = _errors(reached, wanted, std)
    known = errors[~np.isnan(errors)]
    return float(np.sqrt(np.mean(np.square(known)))) if len(known) else math.nan


def key_error(
    reached: NDArray[np.float32], wanted: NDArray[np.float32], std: NDArray[np.float32], dimension: int
) -> float:
    """`tracking_error` of one dimension alone."""
    only = slice(dimension, dimension + 1)
    return tracking_error(reached[:, only], wanted[:, only], std[only])


def waypoints_visited(
    reached: NDArray[np.float32],
    wanted: NDArray[np.float32],
    std: NDArray[np.float32],
    tolerance: float = WAYPOINT_TOLERANCE,
) -> float:
    """Share of the steps with something wanted whose state was near it; those after the end count as missed.

    NaN where nothing is wanted. Arguments as of `tracking_error`.
    """
    _check_shapes(reached, wanted, std)
    steps = np.flatnonzero(~np.isnan(wanted).all(axis=1))
    if not len(steps):
        return math.nan
    return float(np.mean(waypoint_errors(reached, steps, wanted[steps], std) <= tolerance))


def measure_episode(
    reached: NDArray[np.float32],
    wanted: NDArray[np.float32],
    std: NDArray[np.float32],
    key_dimension: int,
    tolerance: float = WAYPOINT_TOLERANCE,
) -> dict[str, float]:
    """All measures of one episode: `tracking_error`, `key_error`, `waypoints_visited` (share) and `length` (steps)."""
    return {
        "tracking_error": tracking_error(reached, wanted, std),
        "key_error": key_error(reached, wanted, std, key_dimension),
        "waypoints_visited": waypoints_visited(reached, wanted, std, tolerance),
        "length": float(len(reached) - 1),
    }


def _errors(reached: NDArray[np.float32], wanted: NDArray[np.float32], std: NDArray[np.float32]) -> NDArray[np.float64]:
    """(planned steps + 1, observation_dim) differences in `std`, NaN where nothing is wanted."""
    _check_shapes(reached, wanted, std)
    rows = np.minimum(np.arange(len(wanted)), len(reached) - 1)
    return (reached[rows].astype(np.float64) - wanted) / std


def _check_shapes(reached: NDArray[np.float32], wanted: NDArray[np.float32], std: NDArray[np.float32]) -> None:
    if reached.shape[1:] != wanted.shape[1:] or std.shape != reached.shape[1:] or not 0 < len(reached) <= len(wanted):
        raise ValueError(f"reached {reached.shape}, wanted {wanted.shape} and std {std.shape} do not fit together")
