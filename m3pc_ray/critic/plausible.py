"""What values can be: a critic that says more than rewards can add up to has diverged."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from m3pc_ray.config import CriticConfig


def complaint(value_mean: float, rewards: npt.ArrayLike, ends: npt.ArrayLike, config: CriticConfig, unit: float) -> str:
    """What is wrong with a mean of V, and what to do about it; empty: nothing.

    Args:
        value_mean: a plain discounted return.
        rewards, ends: (steps,) of the data, see `possible_returns`.
        config: the critic's settings.
        unit: in which the networks predict values.
    """
    if config.bootstrap_through_terminations:
        ends = np.zeros_like(ends)
    possible = possible_returns(rewards, ends, config.discount)
    if not diverged(value_mean, possible, unit):
        return ""
    return (
        f"the critic has diverged: its values average {value_mean:.4g}, while rewards like the data's add up to "
        f"between {possible[0]:.4g} and {possible[1]:.4g}; start again with critic.layer_norm true, a lower "
        "critic.learning_rate or a smaller critic.expectile"
    )


def possible_returns(rewards: npt.ArrayLike, ends: npt.ArrayLike, discount: float) -> tuple[float, float]:
    """The least and the most that any policy could earn if no reward were outside of the data's.

    Every return is a weighted mean of three: nothing, a reward that ends the episode, and another for ever.

    Args:
        rewards: (steps,).
        ends: (steps,) 1 or True where nothing can be earned afterwards.
        discount: at most 1, where another reward than 0 for ever is infinite.
    """
    seen, last = np.asarray(rewards, dtype=np.float64), np.asarray(ends, dtype=bool)
    for_ever = [_for_ever(float(reward), discount) for reward in _extremes(seen[~last])]
    found = [0.0, *_extremes(seen[last]), *for_ever]
    return min(found), max(found)


def _extremes(values: npt.NDArray[np.float64]) -> list[float]:
    return [float(values.min()), float(values.max())] if len(values) else []


def _for_ever(reward: float, discount: float) -> float:
    if discount < 1.0:
        return reward / (1.0 - discount)
    return math.copysign(math.inf, reward) if reward else 0.0


def diverged(value_mean: float, possible: tuple[float, float], unit: float) -> bool:
    """Whether a mean of values lies outside of `possible`, further than by all of its width and one `unit`.

    The margin is for networks that overshoot by a little where a task pays the same at every step.
    """
    low, high = possible
    margin = unit if math.isinf(high - low) else high - low + unit
    return not low - margin <= value_mean <= high + margin
