"""Returns-to-go: what is still earned in an episode from a step on, that step's reward included.

A token holds either the plain sum or the average per remaining step of the time limit. `to_sum` and `from_sum` are the
only places where that scale is applied and undone.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from m3pc_ray.trajectories.validity import whole_rest

Scale = Literal["average", "sum"]
ArrayOrTensor = TypeVar("ArrayOrTensor", bound=Any)


def _remaining(values: Any, timesteps: Any, time_limit: int) -> Any:
    """Steps left to the time limit, this one included, at least 1, in the kind and precision of `values`."""
    if isinstance(values, (np.ndarray, np.generic, float, int)):
        return (time_limit - np.asarray(timesteps)).clip(1).astype(np.asarray(values).dtype)
    import torch

    return (time_limit - torch.as_tensor(timesteps, dtype=values.dtype, device=values.device)).clamp(min=1)


def from_sum(values: ArrayOrTensor, timesteps: Any, scale: str, time_limit: int) -> ArrayOrTensor:
    """Plain sums to the units of a returns-to-go token. Shapes broadcast; numpy arrays or torch tensors.

    At and beyond the time limit one remaining step is assumed, so that padded windows stay finite.
    """
    _check_scale(scale, time_limit)
    return values if scale == "sum" else values / _remaining(values, timesteps, time_limit)


def to_sum(values: ArrayOrTensor, timesteps: Any, scale: str, time_limit: int) -> ArrayOrTensor:
    """The inverse of `from_sum`."""
    _check_scale(scale, time_limit)
    return values if scale == "sum" else values * _remaining(values, timesteps, time_limit)


def returns_to_go(
    trajectories: Trajectories, scale: str, time_limit: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(values (steps,), known (steps,)): the return from every step to the end of its episode, in the given scale.

    Terminated episodes and those that reached the time limit are summed to their end, as the authors do. The return of
    a cut episode is unknown: its values are partial sums, and `known` is False for all its steps. So it is of a step
    from which on a reward is missing; the sums count that as 0.
    Raises UserError when an episode is longer than the time limit.
    """
    _check_scale(scale, time_limit)
    longest = int(trajectories.lengths.max())
    if scale == "average" and longest > time_limit:
        raise UserError(
            f"{trajectories.metadata.name} has an episode of {longest} steps; data.time_limit is {time_limit} "
            "and must not be below that"
        )
    rewards = trajectories.rewards.astype(np.float64)
    before = np.cumsum(rewards) - rewards  # rewards of the whole file before each step
    ends = np.append(before[trajectories.episode_starts[1:-1]], rewards.sum())
    sums = np.repeat(ends, trajectories.lengths) - before
    values = from_sum(sums, trajectories.timesteps(), scale, time_limit).astype(np.float32)
    known = np.repeat(trajectories.episode_ends != EpisodeEnd.CUT, trajectories.lengths)
    if trajectories.rewards_known is not None:
        known &= whole_rest(trajectories.rewards_known, trajectories.episode_starts)
    return values, known


def discounted_returns(trajectories: Trajectories, discount: float) -> NDArray[np.float64]:
    """(steps,) sum of discounted rewards from every step to the last logged one of its episode.

    NaN where a reward from there on is missing.
    """
    values = trajectories.rewards.astype(np.float64)
    starts, lengths = trajectories.episode_starts[:-1], trajectories.lengths
    for timestep in range(int(lengths.max()) - 2, -1, -1):  # all episodes at once, from the back
        rows = starts[lengths > timestep + 1] + timestep
        values[rows] += discount * values[rows + 1]
    if trajectories.rewards_known is not None:
        values[~whole_rest(trajectories.rewards_known, trajectories.episode_starts)] = np.nan
    return values


def best_return_to_go(trajectories: Trajectories, scale: str, time_limit: int) -> NDArray[np.float32]:
    """(time_limit,) the best known return-to-go seen at each time step, in the given scale.

    Time steps that no episode with a known return reached repeat the last value.
    Raises UserError when no episode's return is known.
    """
    values, known = returns_to_go(trajectories, scale, time_limit)
    timesteps = trajectories.timesteps()
    within = known & (timesteps < time_limit)
    if not within.any():
        raise no_return_known(trajectories)
    best = np.full(time_limit, -np.inf, dtype=np.float32)
    np.maximum.at(best, timesteps[within], values[within])
    reached = int(timesteps[within].max())
    best[reached + 1 :] = best[reached]
    return best


def best_return(trajectories: Trajectories) -> float:
    """The largest known return of an episode. Raises UserError when none is known."""
    known = trajectories.returns[trajectories.returns_known()]
    if not len(known):
        raise no_return_known(trajectories)
    return float(known.max())


def no_return_known(trajectories: Trajectories) -> UserError:
    """The error for data whose returns are all unknown, with the reason."""
    name = trajectories.metadata.name
    if np.all(trajectories.episode_ends == EpisodeEnd.CUT):
        return UserError(f"{name}: every episode is cut, so no return is known")
    return UserError(f"{name}: every episode is cut or lacks rewards, so no return is known")


def _check_scale(scale: str, time_limit: int) -> None:
    if scale not in ("average", "sum"):
        raise UserError(f"data.return_scale is {scale!r}; it must be 'average' or 'sum'")
    if scale == "average" and time_limit <= 0:
        raise UserError(f"data.time_limit is {time_limit}; averaged returns need the time limit of the environment")
