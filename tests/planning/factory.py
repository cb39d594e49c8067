"""Random models, critics and contexts; nothing about them is special, so whatever holds for them holds in general."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from m3pc_ray.config import CriticConfig, ModelConfig, PlannerConfig
from m3pc_ray.critic.iql import IQLCritic
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.planning.prompts import ReturnPrompt
from m3pc_ray.trajectories.statistics import Statistics

OBSERVATION_DIM, ACTION_DIM, TIME_LIMIT = 5, 2, 40
DISCOUNT = 0.95


def fresh_seed() -> int:
    """A seed nobody has tried; assertion messages carry it."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def make_statistics(rng: np.random.Generator, observation_dim: int = OBSERVATION_DIM) -> Statistics:
    def pair(size: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=size).astype(np.float32), rng.uniform(0.5, 2.0, size).astype(np.float32)

    (states, returns, rewards) = pair(observation_dim), pair(1), pair(1)
    return Statistics(*states, *returns, *rewards)


def make_model(
    seed: int, observation_dim: int = OBSERVATION_DIM, action_dim: int = ACTION_DIM, **sizes
) -> TrajectoryModel:
    """A model whose biases, norms and embeddings are random too, so that none can be forgotten unnoticed."""
    torch.manual_seed(seed)
    config = ModelConfig(**{"width": 32, **sizes})
    model = TrajectoryModel(
        observation_dim, action_dim, config, make_statistics(np.random.default_rng(seed), observation_dim)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter.mul_(1.5)  # candidates should differ in what they lead to
        for head in model.heads.values():
            head.output.weight.mul_(10.0)  # predictions on the scale that normalised data have
        model.modality_embedding.normal_(0.0, 0.5)
        model.mask_tokens.normal_(0.0, 0.5)
    return model


def make_critic(seed: int, model: TrajectoryModel, **sizes) -> IQLCritic:
    torch.manual_seed(seed)
    config = CriticConfig(**{"hidden_width": 32, "dynamics": False, **sizes})
    states = model.states_mean.numpy(), model.states_std.numpy()
    critic = IQLCritic(model.observation_dim, model.action_dim, config, *states, value_mean=0.7, value_std=1.6)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.mul_(2.5)  # opinions strong enough that candidates differ
    return critic


def make_prompt(seed: int, scale: str = "average") -> ReturnPrompt:
    best_at_step = np.random.default_rng(seed).normal(size=TIME_LIMIT).astype(np.float32)
    return ReturnPrompt(best_at_step, best_return=30.0, scale=scale, time_limit=TIME_LIMIT)


def make_context(
    seed: int,
    timesteps: list[int],
    context_length: int,
    observation_dim: int = OBSERVATION_DIM,
    action_dim: int = ACTION_DIM,
) -> PlanningContext:
    rng = np.random.default_rng(seed)
    batch = len(timesteps)
    keys = np.stack([np.full(batch, seed), np.arange(batch), timesteps], axis=1).astype(np.uint64)
    context = PlanningContext(
        observations=rng.normal(size=(batch, context_length + 1, observation_dim)).astype(np.float32),
        actions=np.tanh(rng.normal(size=(batch, context_length, action_dim))).astype(np.float32),
        timesteps=np.array(timesteps, dtype=np.int64),
        keys=keys,
    )
    for row, position in enumerate(context.positions):
        context.observations[row, position + 1 :] = 0.0
        context.actions[row, position:] = 0.0
    return context


def make_planner(seed: int, scale: str = "average", model_sizes: dict[str, int] | None = None, **settings: Any):
    model = make_model(seed, **(model_sizes or {}))
    units = {"utility_unit_return": 0.4, "utility_unit_critic": 2.5}
    config = PlannerConfig(**{"precision": "float32", "num_candidates": 6, **units, **settings})
    return ForwardPlanner(model, make_critic(seed, model), config, DISCOUNT, make_prompt(seed, scale)), model


def assert_near(ours: np.ndarray, expected: np.ndarray, message: str, tolerance: float = 2e-5) -> None:
    """Equal within `tolerance` of the scale, at least 1; NaN only where NaN is expected."""
    assert ours.shape == expected.shape, message
    assert (np.isnan(ours) == np.isnan(expected)).all(), message
    ours, expected = np.nan_to_num(ours), np.nan_to_num(expected)
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    assert np.abs(ours - expected).max(initial=0.0) < tolerance * scale, message
