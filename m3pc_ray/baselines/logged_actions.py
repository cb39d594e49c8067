"""The actions that data holds, as the baselines learn them."""

from __future__ import annotations

from m3pc_ray.environments.actions import FloatArray, to_model_range
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.validity import to_nan


def logged_actions(trajectories: Trajectories) -> FloatArray:
    """(steps, action_dim) in (-1, 1); rows of NaN where the action is missing, which `train_mlp` leaves out."""
    metadata = trajectories.metadata
    actions = to_model_range(trajectories.actions, metadata.action_low, metadata.action_high)
    return to_nan(actions, trajectories.actions_known)
