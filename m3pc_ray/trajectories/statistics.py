"""Mean and standard deviation of states, returns and rewards, over real steps only."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.returns import no_return_known, returns_to_go

SMALLEST_STD = 0.1
"""A standard deviation below this counts as 1: a nearly constant quantity is not blown up to noise."""


@dataclass(frozen=True)
class Statistics:
    """What tokens are standardised with. Returns are in the units of a returns-to-go token (`data.return_scale`)."""

    states_mean: NDArray[np.float32]
    """(obs_dim,)"""
    states_std: NDArray[np.float32]
    """(obs_dim,)"""
    returns_mean: NDArray[np.float32]
    """(1,)"""
    returns_std: NDArray[np.float32]
    """(1,)"""
    rewards_mean: NDArray[np.float32]
    """(1,)"""
    rewards_std: NDArray[np.float32]
    """(1,)"""

    def to_dict(self) -> dict[str, list[float]]:
        """Lists of floats, exact: every float32 is a JSON number that reads back to the same bits."""
        return {field.name: [float(value) for value in getattr(self, field.name)] for field in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Statistics:
        """The inverse of `to_dict`."""
        return cls(**{field.name: np.asarray(values[field.name], dtype=np.float32) for field in fields(cls)})


def compute_statistics(
    trajectories: Trajectories, scale: str, time_limit: int, smallest_state_std: float = SMALLEST_STD
) -> Statistics:
    """Statistics over all steps; those of rewards and returns over the steps where they are known.

    `smallest_state_std` is that of states (`data.smallest_state_std`), `SMALLEST_STD` that of the others.
    Raises UserError when no return is known.
    """
    values, known = returns_to_go(trajectories, scale, time_limit)
    if not known.any():
        raise no_return_known(trajectories)
    states_mean, states_std = _moments(trajectories.observations, smallest_state_std)
    returns_mean, returns_std = _moments(values[known, None])
    earned = trajectories.rewards
    if trajectories.rewards_known is not None:
        earned = earned[trajectories.rewards_known]
    rewards_mean, rewards_std = _moments(earned[:, None])
    return Statistics(states_mean, states_std, returns_mean, returns_std, rewards_mean, rewards_std)


def _moments(
    values: NDArray[np.float32], smallest: float = SMALLEST_STD
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation (dim,) of (count, dim), accumulated in float64."""
    mean = values.mean(axis=0, dtype=np.float64)
    std = values.std(axis=0, dtype=np.float64)
    return mean.astype(np.float32), np.where(std < smallest, 1.0, std).astype(np.float32)
