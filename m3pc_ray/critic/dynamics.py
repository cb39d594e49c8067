"""One step of the dynamics by a perceptron, learnt from the critic's batches: what M³PC-Q looks ahead with.

The forward-dynamics mask predicts standardised states from a whole window and is one of many things that the trajectory
model learns; a network that predicts the change of one state under one action, as PETS does (Chua et al. 2018), errs a
tenth as much and less for the same updates (docs/capabilities.md), and scoring candidates at the end of short
rollouts is model-based value expansion (Feinberg et al. 2018). docs/better.md has what it brings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from m3pc_ray.model.mlp import MLP, FloatArray, MLPConfig

LEARNING_RATE_RATIO = 10.0
"""Of the critic's learning rate: Adam on a regression takes larger steps than on bootstrapped values."""
UPDATE_EVERY = 4
"""Updates of the critic for one of the dynamics, which needs fewer."""


class DynamicsNetwork(nn.Module):
    """Change of observation and reward from observation and action.

    Args:
        observation_dim: length of an observation.
        action_dim: length of an action in (-1, 1).
    """

    def __init__(self, observation_dim: int, action_dim: int) -> None:
        super().__init__()
        self.network = MLP(observation_dim + action_dim, observation_dim + 1, MLPConfig())

    def standardise(self, inputs: FloatArray, targets: FloatArray) -> None:
        """Units of inputs (rows, observation_dim + action_dim) and targets (rows, observation_dim + 1), from data."""
        self.network.standardise(inputs, targets)

    def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Next observations (..., observation_dim) and rewards (...), of raw observations and actions."""
        outputs = self.network(torch.cat([observations, actions], dim=-1))
        return observations + outputs[..., :-1], outputs[..., -1]

    def roll_out(self, observations: Tensor, actions: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """What sequences of actions lead to, each step from the state predicted before.

        Args:
            observations: (B, observation_dim), raw.
            actions: (B, N, H, action_dim), H at least `steps`.
            steps: of them that are taken; 0: nothing is predicted.

        Returns:
            Observations after 1..steps, (B, N, steps, observation_dim), raw; rewards of steps 1..steps, (B, N, steps).
        """
        batch, count = actions.shape[:2]
        states = actions.new_empty(batch, count, steps, observations.shape[-1])
        rewards = actions.new_empty(batch, count, steps)
        reached = observations[:, None].expand(-1, count, -1)
        for step in range(steps):
            reached, rewards[:, :, step] = self(reached, actions[:, :, step])
            states[:, :, step] = reached
        return states, rewards


class DynamicsTrainer:
    """Least squares, every dimension in units of the variance of its change.

    Args:
        network: trained in place.
        learning_rate: the critic's.
        dtype: of the products between the hidden layers.
    """

    def __init__(self, network: DynamicsNetwork, learning_rate: float, dtype: torch.dtype = torch.float32) -> None:
        self.network, self.dtype = network, dtype
        self.learning_rate = LEARNING_RATE_RATIO * learning_rate
        self.optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate, fused=True)

    def optimizers(self) -> dict[str, Any]:
        """Optimizers by the name they have in a checkpoint."""
        return {"dynamics_optimizer": self.optimizer}

    @torch.enable_grad()
    def update(self, batch: Mapping[str, Tensor], learning_rate_factor: float = 1.0) -> Tensor:
        """One gradient step on a batch as of `IQLTrainer.update`; the mean squared error, a scalar."""
        perceptron = self.network.network
        inputs = torch.cat([batch["observations"], batch["actions"]], dim=-1)
        change = batch["next_observations"] - batch["observations"]
        targets = torch.cat([change, batch["rewards"].unsqueeze(-1)], dim=-1)
        wanted = (targets - perceptron.output_mean) / perceptron.output_std
        loss = (perceptron.raw(inputs, self.dtype) - wanted).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.param_groups[0]["lr"] = self.learning_rate * learning_rate_factor
        self.optimizer.step()
        return loss.detach()
