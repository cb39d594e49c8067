"""Baselines learn what can be learned, the same way every time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from m3pc_ray.baselines.behaviour_cloning import train_behaviour_cloning
from m3pc_ray.baselines.dynamics import fit_dynamics, roll_out
from m3pc_ray.baselines.inverse_dynamics import fit_inverse_dynamics, pairs
from m3pc_ray.errors import UserError
from m3pc_ray.model.mlp import MLPConfig, Training, learning_rate_factor, train_mlp
from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories

A = np.array([[0.9, 0.1], [-0.1, 0.8]], dtype=np.float32)
B = np.array([[0.5, 0.0, 0.2], [0.0, 0.4, -0.1]], dtype=np.float32)
BOUND = 2.0
"""Of the environment's actions, so that the change of scale is seen."""
SMALL = Training(400, 128, config=MLPConfig(width=64, hidden_layers=2))


def linear_episodes(episodes: int, seed: int) -> Trajectories:
    """s' = A s + B a, r = s_0 - a_0, a = tanh of a fixed function of s plus noise (in units of the bound)."""
    rng = np.random.default_rng(seed)
    length = 20
    states, actions, finals = [], [], []
    for _ in range(episodes):
        state = rng.normal(size=2).astype(np.float32)
        for _ in range(length):
            action = np.tanh(np.array([state[0], -state[1], state.sum()]) + 0.5 * rng.normal(size=3)) * 0.95
            states.append(state)
            actions.append(BOUND * action)
            state = (A @ state + B @ action).astype(np.float32)
        finals.append(state)
    observations = np.asarray(states, np.float32)
    return Trajectories(
        observations=observations,
        actions=np.asarray(actions, np.float32),
        rewards=observations[:, 0] - np.asarray(actions, np.float32)[:, 0] / BOUND,
        episode_starts=np.arange(episodes + 1) * length,
        episode_ends=np.full(episodes, EpisodeEnd.TIME_LIMIT, np.int8),
        final_observations=np.asarray(finals, np.float32),
        metadata=DatasetMetadata(
            name="linear",
            environment_id="Linear-v0",
            observation_low=(-np.inf,) * 2,
            observation_high=(np.inf,) * 2,
            action_low=(-BOUND,) * 3,
            action_high=(BOUND,) * 3,
        ),
    )


@pytest.fixture(scope="module")
def data() -> Trajectories:
    return linear_episodes(100, 0)


def test_dynamics_of_a_linear_system_are_learned_and_rolled_out(data: Trajectories) -> None:
    network = fit_dynamics(data, SMALL).network
    fresh = linear_episodes(50, 1)
    first = fresh.episode_starts[:-1]
    states = fresh.observations[first]
    actions = fresh.actions[first[:, None] + np.arange(4)] / BOUND
    predicted, rewards = roll_out(network, states, actions)
    assert predicted.shape == (50, 4, 2)
    state, wanted, earned = states, [], []
    for step in range(4):
        earned.append(state[:, 0] - actions[:, step, 0])
        state = state @ A.T + actions[:, step] @ B.T
        wanted.append(state)
    error = np.square(predicted - np.stack(wanted, 1)).mean((0, 2))
    no_change = np.square(states[:, None] - np.stack(wanted, 1)).mean((0, 2))
    assert (error < 0.05 * no_change).all()
    assert np.square(rewards - np.stack(earned, 1)).mean() < 0.05 * np.var(earned)


def test_inverse_dynamics_of_a_linear_system(data: Trajectories) -> None:
    """Two equations for three actions: what cannot be known is left at the mean given the rest."""
    network = fit_inverse_dynamics(data, SMALL).network
    following = data.next_observations()
    predicted = network.predict(pairs(data.observations, following))
    explained = (following - data.observations @ A.T) - predicted @ B.T
    assert np.square(explained).mean() < 0.05 * np.square(following - data.observations @ A.T).mean()
    assert np.abs(predicted).max() < 1


def test_cloning_finds_the_policy_in_the_models_range(data: Trajectories) -> None:
    policy = train_behaviour_cloning(data, steps=400, batch_size=128, seed=0, device="cpu")
    actions = policy(data.observations)
    assert actions.shape == data.actions.shape
    assert np.abs(actions).max() < 1
    residual = np.square(actions - data.actions / BOUND).mean()
    assert residual < 0.5 * np.var(data.actions / BOUND)


def test_the_same_seed_gives_the_same_network_and_disturbs_nobody(data: Trajectories) -> None:
    training = dataclasses.replace(SMALL, steps=5)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again = (fit_dynamics(data, training).network.predict(np.ones((1, 5))) for _ in range(2))
    other = fit_dynamics(data, dataclasses.replace(training, seed=1)).network.predict(np.ones((1, 5)))
    assert (first == again).all()
    assert (first != other).any()
    assert torch.equal(before, torch.get_rng_state())


def test_rows_that_are_not_known_are_left_out() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 2)).astype(np.float32)
    targets = 3 * inputs[:, :1]
    targets[::2] = np.nan
    inputs[1] = np.inf
    trained = train_mlp(inputs, targets, SMALL)
    assert trained.rows == 99
    assert np.isfinite(trained.network.predict(np.ones((1, 2)))).all()
    with pytest.raises(UserError, match="no complete transition"):
        train_mlp(inputs, np.full_like(targets, np.nan), SMALL)


def test_a_constant_target_is_predicted_exactly() -> None:
    inputs = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    trained = train_mlp(inputs, np.full((50, 1), 7.0, np.float32), SMALL)
    np.testing.assert_allclose(trained.network.predict(inputs), 7.0, atol=0.02)


def test_what_progress_raises_ends_the_training(data: Trajectories) -> None:
    seen = []

    def stop(step: int, steps: int) -> None:
        seen.append((step, steps))
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_dynamics(data, SMALL, stop)
    assert seen == [(1, 400), (2, 400), (3, 400)]


def test_learning_rate_rises_then_falls_to_zero() -> None:
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1.0)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[100] == pytest.approx(0.0)


def test_mistakes_are_named(data: Trajectories) -> None:
    with pytest.raises(UserError, match="0 steps"):
        train_behaviour_cloning(data, steps=0, batch_size=8, seed=0, device="cpu")
