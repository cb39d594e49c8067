"""A replay buffer of the library's that draws a fixed part of every batch from offline data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from m3pc_ray.errors import UserError
from m3pc_ray.training.data import transition_arrays
from m3pc_ray.trajectories.episodes import Trajectories

Offline = dict[str, Tensor]
"""observations, next_observations (N, observation_dim); actions (N, action_dim) in (-1, 1); rewards, dones (N, 1)."""


def offline_transitions(data: Trajectories) -> Offline:
    """The steps of a data set that a critic can learn from; after a time limit or a cut they bootstrap.

    Raises UserError where there is none.
    """
    low, high = (np.asarray(bound, np.float32) for bound in (data.metadata.action_low, data.metadata.action_high))
    arrays, keep = transition_arrays(data, low, high)
    if not keep.any():
        raise UserError(f"{data.metadata.name}: no step has its action, its reward and what followed; SAC needs them")
    tensors = {name: torch.as_tensor(values[keep]) for name, values in arrays.items()}
    return {
        "observations": tensors["observations"],
        "actions": tensors["actions"],
        "next_observations": tensors["next_observations"],
        "dones": tensors["terminated"].unsqueeze(1),
        "rewards": tensors["rewards"].unsqueeze(1),
    }


class MixedReplayBuffer(ReplayBuffer):
    """Online steps as the library keeps them; `sample` puts offline ones after them.

    Args:
        offline: transitions, see `offline_transitions`.
        offline_fraction: part of every batch that comes from them, rounded to whole rows.
    """

    def __init__(self, *args: Any, offline: Offline, offline_fraction: float, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.offline, self.offline_fraction = offline, offline_fraction

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Uniform with replacement from either part: online rows first, offline rows after them."""
        offline = round(self.offline_fraction * batch_size)
        rows = torch.as_tensor(np.random.randint(0, len(self.offline["rewards"]), size=offline))
        drawn = {name: values[rows] for name, values in self.offline.items()}
        if offline == batch_size:
            return ReplayBufferSamples(**drawn)
        online = super().sample(batch_size - offline, env)
        joined = {name: torch.cat([getattr(online, name), values]) for name, values in drawn.items()}
        return ReplayBufferSamples(**joined)
