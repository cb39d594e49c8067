"""Implicit Q-learning networks (Kostrikov et al. 2021; eq. 9 of M³PC): twin Q and V over standardised observations."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from m3pc_ray.config import CriticConfig


class ParallelMLP(nn.Module):
    """`members` perceptrons of two hidden ReLU layers evaluated as batched products: (B, in) -> (members, B)."""

    def __init__(self, members: int, input_dim: int, hidden_width: int) -> None:
        super().__init__()
        sizes = [input_dim, hidden_width, hidden_width, 1]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            bound = fan_in**-0.5  # nn.Linear's default range
            self.weights.append(nn.Parameter(torch.empty(members, fan_in, fan_out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(members, 1, fan_out).uniform_(-bound, bound)))

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.expand(self.weights[0].shape[0], *x.shape)
        for layer in range(2):
            hidden = torch.relu(torch.baddbmm(self.biases[layer], hidden, self.weights[layer]))
        return torch.baddbmm(self.biases[2], hidden, self.weights[2]).squeeze(-1)


class IQLCritic(nn.Module):
    """Q1, Q2, V and the target copies of the Qs.

    Args:
        observation_dim: length of an observation.
        action_dim: length of an action in (-1, 1).
        config: sizes.
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
        self.q = ParallelMLP(2, observation_dim + action_dim, config.hidden_width)
        self.q_target = ParallelMLP(2, observation_dim + action_dim, config.hidden_width)
        self.q_target.load_state_dict(self.q.state_dict())
        self.q_target.requires_grad_(False)
        self.v = ParallelMLP(1, observation_dim, config.hidden_width)
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
        """min(Q1, Q2), shape (...,), of raw observations (..., observation_dim) and actions (..., action_dim).

        Which Qs, the Polyak averages or the newest, is the setting `critic.scoring`.
        """
        leading = observations.shape[:-1]
        inputs = torch.cat([self.standardise(observations), actions], dim=-1).flatten(0, -2)
        network = self.q_target if self.score_with_target else self.q
        return self.raw(network(inputs).amin(0)).view(leading)

    def value(self, observations: Tensor) -> Tensor:
        """V, shape (...,), of raw observations (..., observation_dim)."""
        leading = observations.shape[:-1]
        return self.raw(self.v(self.standardise(observations).flatten(0, -2))[0]).view(leading)
