"""What values can be: a critic that says more than rewards can add up to has diverged."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def possible_returns(rewards: npt.ArrayLike, discount: float) -> tuple[float, float]:
    """The least and the most that any policy could earn if no reward were outside of these (steps,).

    The smallest and the largest reward for ever, or nothing where an episode may end first: their discounted sums.
    """
    seen = np.asarray(rewards, dtype=np.float64)
    least, most = min(float(seen.min()), 0.0), max(float(seen.max()), 0.0)
    if discount < 1.0:
        return least / (1.0 - discount), most / (1.0 - discount)
    return -math.inf if least else 0.0, math.inf if most else 0.0


def diverged(value_mean: float, possible: tuple[float, float], unit: float) -> bool:
    """Whether a mean of values lies outside of `possible`, further than by all of its width and one `unit`.

    The margin is for networks that overshoot by a little where a task pays the same at every step.
    """
    low, high = possible
    margin = unit if math.isinf(high - low) else high - low + unit
    return not low - margin <= value_mean <= high + margin
