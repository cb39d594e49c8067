"""Inverse dynamics by an MLP: the action that led from one observation to the next."""

from __future__ import annotations

import numpy as np

from m3pc_ray.baselines.logged_actions import logged_actions
from m3pc_ray.model.mlp import FloatArray, Progress, TrainedMLP, Training, train_mlp
from m3pc_ray.trajectories.episodes import Trajectories


def pairs(before: FloatArray, after: FloatArray) -> FloatArray:
    """What the network reads, (..., 2 observation_dim): the observation and its change.

    The same as the two of them, but a small change is not the difference of two large numbers.
    """
    return np.concatenate([before, after - before], axis=-1)


def fit_inverse_dynamics(
    trajectories: Trajectories, training: Training, progress: Progress | None = None
) -> TrainedMLP:
    """The network, `pairs` (B, 2 observation_dim) to actions (B, action_dim) in (-1, 1), least squares.

    Raises UserError where no step has an action and a known successor.
    """
    inputs = pairs(trajectories.observations, trajectories.next_observations())
    return train_mlp(inputs, logged_actions(trajectories), training, squash=True, progress=progress)
