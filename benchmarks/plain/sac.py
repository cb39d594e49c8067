"""SAC as a minimal loop in torch: a module for each network, three Adam optimizers, transitions in numpy arrays."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def _network(inputs: int, hidden_width: int, outputs: int, layer_norm: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in in (inputs, hidden_width):
        layers.append(nn.Linear(fan_in, hidden_width))
        if layer_norm:
            layers.append(nn.LayerNorm(hidden_width))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(hidden_width, outputs))


class PlainSAC:
    """`members` critics, `target_members` of them in each target (drawn where that is fewer), and an actor.

    data: observations, actions, rewards, next_observations, terminated, arrays with a row a step.
    """

    def __init__(
        self,
        data: dict[str, np.ndarray],
        members: int = 2,
        target_members: int = 2,
        layer_norm: bool = False,
        hidden_width: int = 256,
        batch_size: int = 256,
    ) -> None:
        self.data, self.members, self.target_members, self.batch_size = data, members, target_members, batch_size
        observation_dim, action_dim = data["observations"].shape[1], data["actions"].shape[1]
        self.actor = _network(observation_dim, hidden_width, 2 * action_dim)
        pair = observation_dim + action_dim
        self.critics = nn.ModuleList([_network(pair, hidden_width, 1, layer_norm) for _ in range(members)])
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_weight = torch.zeros(1, requires_grad=True)
        self.optimizers = [
            torch.optim.Adam(parameters, lr=3e-4)
            for parameters in (self.actor.parameters(), self.critics.parameters(), [self.log_weight])
        ]
        self.target_entropy, self.rng = -float(action_dim), np.random.default_rng(0)

    def sample(self) -> dict[str, Tensor]:
        """Transitions, uniform with replacement."""
        rows = self.rng.integers(len(self.data["rewards"]), size=self.batch_size)
        return {name: torch.from_numpy(values[rows]) for name, values in self.data.items()}

    def act(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (B, action_dim) drawn from the policy and their log-densities (B,)."""
        mean, log_std = self.actor(observations).chunk(2, dim=1)
        policy = torch.distributions.Normal(mean, log_std.clamp(-20.0, 2.0).exp())
        drawn = policy.rsample()
        # log(1 - tanh(x)^2), written so that it does not underflow
        squash = 2.0 * (np.log(2.0) - drawn - functional.softplus(-2.0 * drawn))
        return torch.tanh(drawn), (policy.log_prob(drawn) - squash).sum(1)

    @torch.no_grad()
    def goal(self, batch: dict[str, Tensor], members: list[int]) -> Tensor:
        """What all critics regress, (B,)."""
        actions, log_density = self.act(batch["next_observations"])
        pairs = torch.cat([batch["next_observations"], actions], 1)
        future = torch.stack([self.targets[member](pairs)[:, 0] for member in members]).amin(0)
        future = future - self.log_weight.exp() * log_density
        return batch["rewards"] + 0.99 * (1.0 - batch["terminated"]) * future

    def update_critics(self) -> dict[str, Tensor]:
        """A batch, one step of every critic on it, and of the targets; returns the batch."""
        batch = self.sample()
        members = self.rng.permutation(self.members)[: self.target_members].tolist()
        goal = self.goal(batch, members)
        pairs = torch.cat([batch["observations"], batch["actions"]], 1)
        self._step(1, sum((critic(pairs)[:, 0] - goal).square().mean() for critic in self.critics))
        with torch.no_grad():
            for target, learnt in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                target.lerp_(learnt, 0.005)
        return batch

    def update_actor(self, batch: dict[str, Tensor], mean_of_critics: bool) -> None:
        """One step of the actor and of the entropy weight."""
        actions, log_density = self.act(batch["observations"])
        pairs = torch.cat([batch["observations"], actions], 1)
        values = torch.stack([critic(pairs)[:, 0] for critic in self.critics])
        value = values.mean(0) if mean_of_critics else values.amin(0)
        self._step(0, (self.log_weight.exp().detach() * log_density - value).mean())
        self._step(2, -(self.log_weight * (log_density + self.target_entropy).detach()).mean())

    def _step(self, optimizer: int, loss: Tensor) -> None:
        self.optimizers[optimizer].zero_grad()
        loss.backward()
        self.optimizers[optimizer].step()
