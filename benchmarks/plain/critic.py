"""IQL as its paper's pseudocode reads: a module for each network, three Adam optimizers, autograd, float32."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def _network(inputs: int, hidden_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden_width),
        nn.ReLU(),
        nn.Linear(hidden_width, hidden_width),
        nn.ReLU(),
        nn.Linear(hidden_width, 1),
    )


class PlainIQL:
    """Twin Q, V and their update; observations already standardised."""

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden_width: int = 256,
        expectile: float = 0.7,
        discount: float = 0.99,
        polyak: float = 0.005,
        learning_rate: float = 3e-4,
        device: torch.device | str = "cpu",
    ) -> None:
        self.expectile, self.discount, self.polyak = expectile, discount, polyak
        self.q1 = _network(observation_dim + action_dim, hidden_width).to(device)
        self.q2 = _network(observation_dim + action_dim, hidden_width).to(device)
        self.v = _network(observation_dim, hidden_width).to(device)
        self.target_q1, self.target_q2 = copy.deepcopy(self.q1), copy.deepcopy(self.q2)
        self.optimizers = {
            name: torch.optim.Adam(getattr(self, name).parameters(), lr=learning_rate) for name in ("q1", "q2", "v")
        }

    def update(self, batch: Mapping[str, Tensor]) -> tuple[float, float]:
        """One step of V, both Qs and the targets; returns (value loss, Q loss), both before the step."""
        observations, pairs = batch["observations"], torch.cat([batch["observations"], batch["actions"]], dim=-1)
        with torch.no_grad():
            target = torch.minimum(self.target_q1(pairs), self.target_q2(pairs)).squeeze(-1)
            next_value = self.v(batch["next_observations"]).squeeze(-1)
            goal = batch["rewards"] + self.discount * (1.0 - batch["terminated"]) * next_value
        advantage = target - self.v(observations).squeeze(-1)
        weight = torch.where(advantage > 0, self.expectile, 1.0 - self.expectile)
        value_loss = (weight * advantage.square()).mean()
        q_loss = sum((q(pairs).squeeze(-1) - goal).square().mean() for q in (self.q1, self.q2))
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        value_loss.backward()
        q_loss.backward()
        for optimizer in self.optimizers.values():
            optimizer.step()
        for online, target_network in ((self.q1, self.target_q1), (self.q2, self.target_q2)):
            for source, destination in zip(online.parameters(), target_network.parameters(), strict=True):
                destination.data.lerp_(source.data, self.polyak)
        return float(value_loss.detach()), float(q_loss.detach())
