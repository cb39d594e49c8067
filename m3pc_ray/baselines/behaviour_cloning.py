"""Behaviour cloning by an MLP: the action that the data took, from the observation alone."""

from __future__ import annotations

import torch

from m3pc_ray.baselines.feedforward_agent import Policy
from m3pc_ray.baselines.logged_actions import logged_actions
from m3pc_ray.model.mlp import FloatArray, Progress, TrainedMLP, Training, train_mlp
from m3pc_ray.trajectories.episodes import Trajectories


def fit_behaviour_cloning(
    trajectories: Trajectories, training: Training, progress: Progress | None = None
) -> TrainedMLP:
    """The network, observations (B, observation_dim) to actions (B, action_dim) in (-1, 1), least squares.

    Raises UserError where no step has an action.
    """
    return train_mlp(trajectories.observations, logged_actions(trajectories), training, squash=True, progress=progress)


def train_behaviour_cloning(
    trajectories: Trajectories, *, steps: int, batch_size: int, seed: int, device: torch.device | str
) -> Policy:
    """A policy for `FeedforwardAgent`: raw observations (B, observation_dim) to actions (B, action_dim) in (-1, 1).

    Args:
        trajectories: to learn from, all of them; steps without an action are left out.
        steps: gradient steps.
        batch_size: transitions a step. A trajectory model sees its batch size times its segment length.
        seed: of weights and batches.
        device: where to train and to act.

    Raises:
        UserError: no step has an action, or `steps` or `batch_size` is below 1.
    """
    network = fit_behaviour_cloning(trajectories, Training(steps, batch_size, seed, device)).network

    def policy(observations: FloatArray) -> FloatArray:
        return network.predict(observations)

    return policy
