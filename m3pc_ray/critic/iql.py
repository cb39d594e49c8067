"""Implicit Q-learning networks (Kostrikov et al. 2021; eq. 9 of M³PC): Qs and V over standardised observations.

Two Qs are IQL's and the paper's. More of them are REDQ's ensemble (Chen et al. 2021), LayerNorm before the activations
is RLPD's (Ball et al. 2023).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from m3pc_ray.config import CriticConfig
from m3pc_ray.critic.dynamics import DynamicsNetwork

NORM_EPSILON = 1e-5
"""Of the LayerNorms; torch's default."""


class ParallelMLP(nn.Module):
    """`members` perceptrons of two hidden ReLU layers evaluated as batched products: (B, in) -> (members, B).

    With `layer_norm` every hidden layer is normalised before its ReLU, with a scale and a shift of each member's own.
    """

    def __init__(self, members: int, input_dim: int, hidden_width: int, layer_norm: bool = False) -> None:
        super().__init__()
        sizes = [input_dim, hidden_width, hidden_width, 1]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            bound = fan_in**-0.5  # nn.Linear's default range
            self.weights.append(nn.Parameter(torch.empty(members, fan_in, fan_out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(members, 1, fan_out).uniform_(-bound, bound)))
        self.norm_scales = nn.ParameterList()
        self.norm_shifts = nn.ParameterList()
        for _ in range(2 if layer_norm else 0):
            self.norm_scales.append(nn.Parameter(torch.ones(members, 1, hidden_width)))
            self.norm_shifts.append(nn.Parameter(torch.zeros(members, 1, hidden_width)))

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.expand(self.weights[0].shape[0], *x.shape)
        for layer in range(2):
            hidden = torch.baddbmm(self.biases[layer], hidden, self.weights[layer])
            if len(self.norm_scales):
                normed = functional.layer_norm(hidden, hidden.shape[-1:], eps=NORM_EPSILON)
                hidden = self.norm_shifts[layer] + self.norm_scales[layer] * normed
            hidden = torch.relu(hidden)
        return torch.baddbmm(self.biases[2], hidden, self.weights[2]).squeeze(-1)


class IQLCritic(nn.Module):
    """The Qs, V, the target copies of the Qs, and with `critic.dynamics` the dynamics, learnt from the same batches.

    Args:
        observation_dim: length of an observation.
        action_dim: length of an action in (-1, 1).
        config: sizes: `hidden_width`, `ensemble_size`, `layer_norm` and `dynamics`.
        states_mean, states_std: (observation_dim,), the data's statistics.
        value_mean, value_std: units in which the networks predict values (setting `critic.standardise_values`). The
            expectile and the Bellman equation do not care about them.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        config: CriticConfig,
        states_mean: np.ndarray,
        states_std: np.ndarray,
        value_mean: float = 0.0,
        value_std: float = 1.0,
    ) -> None:
        super().__init__()
        self.observation_dim, self.action_dim = observation_dim, action_dim
        self.score_with_target = config.scoring == "target"
        pair_dim, hidden_width, normed = observation_dim + action_dim, config.hidden_width, config.layer_norm
        self.q = ParallelMLP(config.ensemble_size, pair_dim, hidden_width, normed)
        self.q_target = ParallelMLP(config.ensemble_size, pair_dim, hidden_width, normed)
        self.q_target.load_state_dict(self.q.state_dict())
        self.q_target.requires_grad_(False)
        self.v = ParallelMLP(1, observation_dim, hidden_width, normed)
        self.dynamics = DynamicsNetwork(observation_dim, action_dim) if config.dynamics else None
        self.states_mean: Tensor
        self.states_std: Tensor
        self.value_mean: Tensor
        self.value_std: Tensor
        self.register_buffer("value_mean", torch.tensor(value_mean, dtype=torch.float32))
        self.register_buffer("value_std", torch.tensor(value_std, dtype=torch.float32))
        self.register_buffer("states_mean", torch.as_tensor(np.asarray(states_mean), dtype=torch.float32))
        self.register_buffer("states_std", torch.as_tensor(np.asarray(states_std), dtype=torch.float32))

    def standardise(self, observations: Tensor) -> Tensor:
        return (observations - self.states_mean) / self.states_std

    def raw(self, values: Tensor) -> Tensor:
        """Network outputs to plain discounted returns."""
        return self.value_mean + self.value_std * values

    def q_min(self, observations: Tensor, actions: Tensor) -> Tensor:
        """The smallest Q, shape (...,), of raw observations (..., observation_dim) and actions (..., action_dim).

        min(Q1, Q2), or over a larger ensemble. Which Qs, the Polyak averages or the newest: setting `critic.scoring`.
        """
        return self.q_members(observations, actions).amin(0)

    def q_members(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Every Q, (members, ...), arguments as of `q_min`."""
        inputs = torch.cat([self.standardise(observations), actions], dim=-1).flatten(0, -2)
        network = self.q_target if self.score_with_target else self.q
        return self.raw(network(inputs)).unflatten(1, observations.shape[:-1])

    def value(self, observations: Tensor) -> Tensor:
        """V, shape (...,), of raw observations (..., observation_dim)."""
        leading = observations.shape[:-1]
        return self.raw(self.v(self.standardise(observations).flatten(0, -2))[0]).view(leading)


def same_networks(first: CriticConfig, second: CriticConfig) -> bool:
    """Whether the weights of a critic with the first settings fit one with the second."""
    names = ("hidden_width", "ensemble_size", "layer_norm", "dynamics")
    return all(getattr(first, name) == getattr(second, name) for name in names)
