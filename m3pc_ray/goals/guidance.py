"""A demonstration bent to another beginning and another end: an affine map of the plane it moves over.

    demonstrated:  hand at its start     thing at its start     thing at its end
    wanted:        hand as observed      thing as observed      where it is to go

Three pairs of points define one map x -> A x + b of the plane (paper, appendix A: guidance by affine transformation).
Heights and rotations stay as they were demonstrated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3pc_ray.environments.manipulation import observation
from m3pc_ray.environments.manipulation.tasks import ManipulationTask
from m3pc_ray.errors import UserError

_HAND, _THING = slice(0, 2), slice(9, 11)
"""Entries of an observation: place in the plane."""
_NEAR = 0.01
"""Metres of the way that are as good as none left."""
_AT_ONCE = 0.03
"""Metres of a gap that are to be made good at once: about what the arm goes from one waypoint to the next."""
_FLATTEST = 0.05
"""Smallest sine of the angle between the two ways of a triangle that still defines a map without blowing up noise."""


def affine_map(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    """(2, 3): A and b beside it, of the map that takes points `before` (3, 2) to `after` (3, 2).

    Raises UserError where the points before lie on a line, or nearly so.
    """
    source, target = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if _on_a_line(source):
        raise UserError("a demonstration whose three points lie on a line cannot be bent; take another one")
    return np.asarray(np.linalg.solve(np.column_stack([source, np.ones(3)]), target).T, dtype=np.float64)


def _on_a_line(points: NDArray[np.float64]) -> bool:
    ways = points[1:] - points[0]
    return bool(abs(np.linalg.det(ways)) <= _FLATTEST * np.prod(np.linalg.norm(ways, axis=1)))


def bendable(first: NDArray[np.float32], last: NDArray[np.float32]) -> bool:
    """Whether `bend` takes a demonstration with this first and this last observation (observation_dim,)."""
    return not _on_a_line(_triangle(first, last))


def _triangle(first: NDArray[np.float32], last: NDArray[np.float32]) -> NDArray[np.float64]:
    """(3, 2): hand at its start, thing at its start, thing at its end."""
    return np.stack([first[_HAND], first[_THING], last[_THING]]).astype(np.float64)


def bend(
    task: ManipulationTask, demonstration: NDArray[np.float32], begins: NDArray[np.float32], end: ArrayLike | None
) -> NDArray[np.float32]:
    """A demonstration as it would be from another beginning, to another end.

    Args:
        task: whose observations these are; one that holds the object's rotation.
        demonstration: (steps + 1, observation_dim) raw.
        begins: (observation_dim,) the observation that it is to begin with.
        end: (2,) x and y of where the object is to end, metres; None: where the demonstration has taken it.

    Returns:
        (steps + 1, observation_dim).

    Raises:
        UserError: see `affine_map`.
    """
    first, last = demonstration[0], demonstration[-1]
    before = _triangle(first, last)
    after = np.stack([begins[_HAND], begins[_THING], last[_THING] if end is None else np.asarray(end)])
    found = affine_map(before, after)
    bent = demonstration.astype(np.float64)
    for part in (_HAND, _THING):
        bent[:, part] = bent[:, part] @ found[:, :2].T + found[:, 2]
    whole = observation.assemble(task, bent[:, :9], bent[:, 9:16])
    return observation.continuous(task, whole, [0]).astype(np.float32)


def from_where_it_is(
    steps: NDArray[np.int64], step: int, seen: NDArray[np.float32], states: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The way ahead, moved in the plane so that it begins near where the thing is and still ends where it is to end.

    A hand that lags would otherwise be asked for ever longer steps, such as no demonstration has. Of the gap between
    where the thing is and where it should be by now, 3 cm are to be made good at once; what is beyond closes in
    proportion to the way that is left.

    Args:
        steps: (K,) of the waypoints.
        step: of the episode, now.
        seen: (observation_dim,) there.
        states: (K, observation_dim) the waypoints as they are wanted.

    Returns:
        (K, observation_dim); those whose time has passed mean nothing.
    """
    way = states[:, _THING].astype(np.float64)
    now = np.array([np.interp(step, steps, place) for place in way.T])
    gone = np.concatenate([[0.0], np.linalg.norm(np.diff(way, axis=0), axis=1).cumsum()])
    left = gone[-1] - np.interp(step, steps, gone)
    if left < _NEAR:
        return states
    behind = seen[_THING] - now
    spread = max(0.0, 1.0 - _AT_ONCE / max(float(np.linalg.norm(behind)), _AT_ONCE))
    gap = behind * spread * np.clip((gone[-1] - gone) / left, 0.0, 1.0)[:, None]
    moved = states.copy()
    moved[:, _HAND] += gap.astype(np.float32)
    moved[:, _THING] += gap.astype(np.float32)
    return moved
