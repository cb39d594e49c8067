"""A policy without memory, observation to action, that plays episodes as `agent.Agent` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from m3pc_ray.environments.actions import FloatArray
from m3pc_ray.planning.plan import Plan
from m3pc_ray.trajectories.episodes import DatasetMetadata

Policy = Callable[[npt.NDArray[np.float32]], FloatArray]
"""Observations (B, observation_dim) to actions (B, action_dim) in (-1, 1)."""


class FeedforwardAgent:
    """What `evaluation.evaluate.run_episodes` needs of an agent, around a function.

    Args:
        policy: observations (B, observation_dim), raw, to actions (B, action_dim) in (-1, 1).
        metadata: of the data it learned from; its bounds are the environment's.
        time_limit: steps after which evaluation cuts an episode off; 0: the environment's own limit.
    """

    def __init__(self, policy: Policy, metadata: DatasetMetadata, time_limit: int = 0) -> None:
        self.policy, self.metadata, self.time_limit = policy, metadata, time_limit
        self.environment_id = metadata.environment_id
        self.action_low = np.asarray(metadata.action_low, dtype=np.float32)
        self.action_high = np.asarray(metadata.action_high, dtype=np.float32)

    def reset(self) -> None:
        """Nothing is remembered."""

    def plan(
        self,
        observations: npt.ArrayLike,
        episode_start: bool | npt.ArrayLike | None = None,
        deterministic: bool = True,
        *,
        rows: Sequence[int] | npt.NDArray[np.int64] | None = None,
        streams: npt.ArrayLike | None = None,
    ) -> Plan:
        """The policy's actions; what an agent with a memory needs besides observations is not looked at.

        Raises ValueError for `deterministic` False: there is no distribution to sample from.
        """
        if not deterministic:
            raise ValueError("a feed-forward policy has one action and nothing to sample from")
        return Plan(np.asarray(self.policy(np.asarray(observations, dtype=np.float32)), dtype=np.float32))
