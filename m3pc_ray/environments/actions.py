"""The one place where actions change their scale.

Data sets, replay and environments hold actions in the environment's own bounds; the model and the planner see them in
(-1, 1). For the MuJoCo locomotion tasks with bounds of -1 and 1 both functions are the identity, bit for bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def to_model_range(actions: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike) -> FloatArray:
    """Map actions (..., action_dim) from [low, high] to [-1, 1], float32; low and high are (action_dim,)."""
    values, low32, high32 = _float32(actions, low, high)
    if _is_unit(low32, high32):
        return values
    return (2.0 * (values - low32) / (high32 - low32) - 1.0).astype(np.float32)


def to_environment_range(actions: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike) -> FloatArray:
    """Map actions (..., action_dim) from [-1, 1] to [low, high], float32, never outside the bounds by rounding."""
    values, low32, high32 = _float32(actions, low, high)
    if _is_unit(low32, high32):
        return values
    scaled = low32 + (values + 1.0) * 0.5 * (high32 - low32)
    return np.clip(scaled, low32, high32).astype(np.float32)


def _float32(*arrays: npt.ArrayLike) -> list[FloatArray]:
    return [np.asarray(array, dtype=np.float32) for array in arrays]


def _is_unit(low: FloatArray, high: FloatArray) -> bool:
    return bool(np.all(low == -1.0) and np.all(high == 1.0))
