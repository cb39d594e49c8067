"""Forward dynamics by an MLP: the change of state and the reward, from state and action; several steps by feeding back
what it predicted."""

from __future__ import annotations

import numpy as np

from m3pc_ray.baselines.logged_actions import logged_actions
from m3pc_ray.model.mlp import MLP, FloatArray, Progress, TrainedMLP, Training, train_mlp
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.validity import to_nan


def fit_dynamics(trajectories: Trajectories, training: Training, progress: Progress | None = None) -> TrainedMLP:
    """The network, (observation, action in (-1, 1)) to (change of observation, reward), raw units, least squares.

    Every dimension counts in units of the variance of its change, so that slow ones are learned as well as fast ones.
    Raises UserError where no step has an action and a known successor.
    """
    return train_mlp(*transition_rows(trajectories), training, progress=progress)


def transition_rows(trajectories: Trajectories) -> tuple[FloatArray, FloatArray]:
    """(observation, action in (-1, 1)) and (change of observation, reward) of every step; NaN where one is unknown."""
    change = trajectories.next_observations() - trajectories.observations
    inputs = np.concatenate([trajectories.observations, logged_actions(trajectories)], axis=1)
    rewards = to_nan(trajectories.rewards, trajectories.rewards_known)
    return inputs, np.concatenate([change, rewards[:, None]], axis=1)


def roll_out(network: MLP, states: FloatArray, actions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What a network of `fit_dynamics` says of actions (B, k, action_dim) from states (B, observation_dim), raw units.

    Returns:
        states after 1..k steps (B, k, observation_dim), each from the one predicted before; rewards (B, k).
    """
    predicted, rewards = [], []
    for step in range(actions.shape[1]):
        outputs = network.predict(np.concatenate([states, actions[:, step]], axis=1))
        states = states + outputs[:, :-1]
        predicted.append(states)
        rewards.append(outputs[:, -1])
    return np.stack(predicted, axis=1), np.stack(rewards, axis=1)
