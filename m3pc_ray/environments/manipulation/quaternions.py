"""Rotations as unit quaternions (x, y, z, w) whose signs do not jump.

q and -q are the same rotation, and simulators return either. A model that predicts the next state needs one of them:
the one nearest to the step before, and at an episode's start the one nearest to a fixed rotation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[Any]


def nearest(quaternion: npt.ArrayLike, previous: npt.ArrayLike) -> FloatArray:
    """Of q and -q (4,) the one in the hemisphere of `previous` (4,).

    Halfway between both, it is the one whose first entry that is not 0 is above 0.
    """
    value = np.asarray(quaternion)
    return value * int(_signs(value[None], np.asarray(previous)[None])[0])


def continuous(quaternions: npt.ArrayLike, starts: npt.ArrayLike, first: npt.ArrayLike) -> FloatArray:
    """`nearest` applied along episodes, all of them at once.

    Args:
        quaternions: (steps, 4) of episodes one after another.
        starts: (episodes,) rows of their first steps.
        first: (4,) what an episode's first quaternion is compared with.
    """
    values = np.asarray(quaternions)
    if not len(values):
        return values.copy()
    begins = np.zeros(len(values), dtype=bool)
    begins[np.asarray(starts, dtype=np.int64)] = True
    before = np.roll(values, 1, axis=0)
    before[begins] = np.asarray(first, dtype=values.dtype)
    # From a step halfway between both hemispheres on, the sign does not depend on what was before.
    begins |= _dots(values, before) == 0.0
    turns = _signs(values, before)
    product = np.cumprod(turns)  # of all turns up to a step; what came before its beginning is divided out, by +-1
    beginning = np.maximum.accumulate(np.where(begins, np.arange(len(values)), 0))
    signs = product * (product * turns)[beginning]
    return values * signs[:, None].astype(values.dtype)


def rotate(quaternions: npt.ArrayLike, vectors: npt.ArrayLike) -> FloatArray:
    """(..., 3): vectors (..., 3) of frames that are turned by quaternions (..., 4), in the world's axes."""
    rotation, vector = np.asarray(quaternions, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    axis, cosine = rotation[..., :3], rotation[..., 3:]
    twice = 2.0 * np.cross(axis, vector)
    return vector + cosine * twice + np.cross(axis, twice)


def rotate_back(quaternions: npt.ArrayLike, vectors: npt.ArrayLike) -> FloatArray:
    """(..., 3): vectors (..., 3) of the world as seen in frames that are turned by quaternions (..., 4)."""
    return rotate(np.asarray(quaternions, dtype=np.float64) * (-1.0, -1.0, -1.0, 1.0), vectors)


def relative(frames: npt.ArrayLike, quaternions: npt.ArrayLike) -> FloatArray:
    """(steps, 4): rotations (steps, 4) of the world as seen in frames that are turned by `frames` (steps, 4)."""
    frame, value = np.asarray(frames, dtype=np.float64), np.asarray(quaternions, dtype=np.float64)
    axis, cosine = -frame[:, :3], frame[:, 3:]
    other, scalar = value[:, :3], value[:, 3:]
    vector = cosine * other + scalar * axis + np.cross(axis, other)
    return np.concatenate([vector, cosine * scalar - np.sum(axis * other, axis=1, keepdims=True)], axis=1)


def _dots(values: FloatArray, others: FloatArray) -> FloatArray:
    return np.sum(values.astype(np.float64) * others.astype(np.float64), axis=1)


def _signs(values: FloatArray, others: FloatArray) -> npt.NDArray[np.int64]:
    """(steps,) 1 or -1: which turns each value (steps, 4) into the hemisphere of its other (steps, 4)."""
    dots = _dots(values, others)
    leading = values[np.arange(len(values)), np.argmax(values != 0.0, axis=1)]
    return np.where(np.where(dots == 0.0, leading, dots) < 0.0, -1, 1)
