"""TD3+BC (Fujimoto & Gu 2021, on TD3 of Fujimoto et al. 2018) over exchangeable features.

Every update: both Qs regress r + gamma min(Q1', Q2')(s', pi'(s') + clipped noise), nothing after a true termination.
Every second: the actor ascends lambda Q1(s, pi(s)) minus its squared distance to the data's action, with
lambda = alpha / mean |Q1|, and all targets move by Polyak averaging.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from m3pc_ray.critic.iql import ParallelMLP
from m3pc_ray.model.network import Linear
from m3pc_ray.representations.features import Features
from m3pc_ray.training.state import pack_optimizer, pack_torch_generator, unpack_optimizer, unpack_torch_generator

Batch = Mapping[str, Tensor]
"""observations, next_observations (B, observation_dim) standardised; actions (B, action_dim) in (-1, 1); rewards,
terminated (B,); and where features are constant those of `features.constant_features`."""


@dataclass(frozen=True)
class TD3Config:
    """Settings of TD3+BC. Where nothing else is said, values are those of both papers."""

    alpha: float = 2.5
    """Weight of Q against behaviour cloning (TD3+BC)."""
    behaviour_cloning: bool = True
    """False: plain TD3, whose actor only ascends Q1; offline it usually diverges."""
    discount: float = 0.99
    polyak: float = 0.005
    """Part of the way that targets move with every update of the actor."""
    policy_noise: float = 0.2
    """Standard deviation of the target action's noise."""
    noise_clip: float = 0.5
    """Most that noise moves a target action."""
    policy_delay: int = 2
    """Critic updates per actor update."""
    learning_rate: float = 3e-4
    """Of Adam, for actor and critic."""
    encoder_learning_rate: float = 3e-5
    """Of Adam for finetuned encoders: ours, a tenth of the others', since pretrained weights lie near where they
    should be."""
    batch_size: int = 256
    hidden_width: int = 256
    """Of the two hidden layers of every network."""


class Actor(nn.Module):
    """Features of a state, two hidden layers, tanh.

    Args:
        features: of states.
        action_dim: length of an action.
        hidden_width: of the hidden layers.
        dtype: of the product between the hidden layers.
    """

    def __init__(self, features: Features, action_dim: int, hidden_width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.features, self.dtype = features, dtype
        self.first = Linear(features.state_dim, hidden_width)
        self.second = Linear(hidden_width, hidden_width)
        self.last = Linear(hidden_width, action_dim)

    def forward(self, observations: Tensor, state: Tensor | None = None) -> Tensor:
        """Actions (B, action_dim) in (-1, 1) of standardised observations; `state`: their features, where known."""
        state = self.features.state(observations) if state is None else state
        hidden = functional.relu(self.second(functional.relu(self.first(state)).to(self.dtype)))
        return torch.tanh(self.last(hidden.float()))


class TwinCritic(nn.Module):
    """Features of a state and an action, then two perceptrons whose products are batched.

    Args as those of `Actor`; the first layer computes in the type of the features.
    """

    def __init__(self, features: Features, hidden_width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.features, self.dtype = features, dtype
        self.networks = ParallelMLP(2, features.pair_dim, hidden_width)

    def forward(
        self, observations: Tensor, actions: Tensor, state: Tensor | None = None, pair: Tensor | None = None
    ) -> Tensor:
        """Q1 and Q2 (2, B); `state`, `pair`: features of the state alone and with the action, where known."""
        return self._values(self._pair(observations, actions, state, pair), 2)

    def first(self, observations: Tensor, actions: Tensor, state: Tensor | None = None) -> Tensor:
        """Q1 alone, (B,)."""
        return self._values(self._pair(observations, actions, state, None), 1)[0]

    def _pair(self, observations: Tensor, actions: Tensor, state: Tensor | None, pair: Tensor | None) -> Tensor:
        # Known features lie in float32; encoded on the fly they come in the encoder's type.
        return self.features.pair(observations, actions, state) if pair is None else pair.to(self.dtype)

    def _values(self, pair: Tensor, members: int) -> Tensor:
        weights, biases = list(self.networks.weights), list(self.networks.biases)
        if members == 1:
            weights, biases = [each[:1] for each in weights], [each[:1] for each in biases]
        width = weights[0].shape[2]
        # One product for both networks: their inputs are the same.
        joined = weights[0].transpose(0, 1).flatten(1).to(pair.dtype)  # (pair_dim, members * width)
        hidden = torch.addmm(biases[0].flatten().to(pair.dtype), pair, joined)
        hidden = functional.relu(hidden).to(self.dtype).view(-1, members, width).transpose(0, 1)
        hidden = functional.relu(torch.baddbmm(biases[1].to(self.dtype), hidden, weights[1].to(self.dtype))).float()
        # One column is no matrix: torch's batched product takes longer over it than multiplying and adding.
        return (hidden * weights[2].transpose(1, 2)).sum(-1) + biases[2].squeeze(-1)


class TD3BC:
    """Actor, critic, their targets and the update.

    Frozen features are shared by all networks. Those that learn are copied: the actor's loss trains the actor's copy,
    the Bellman error the critic's (one for both Qs), and the targets have Polyak averages of both.

    Args:
        features: of the data, see `features.make_features`.
        action_dim: length of an action.
        config: settings.
        seed: of the networks' first weights and the targets' noise.
        dtype: of the products between hidden layers.
        device: where everything lives.
    """

    def __init__(
        self,
        features: Features,
        action_dim: int,
        config: TD3Config,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):  # building must not disturb what is drawn elsewhere
            torch.manual_seed(seed)
            self.actor = Actor(features, action_dim, config.hidden_width, dtype).to(device)
            own = features if features.constant else copy.deepcopy(features)
            self.critic = TwinCritic(own, config.hidden_width, dtype).to(device)
        self.actor_target, self.critic_target = _target(self.actor), _target(self.critic)
        self._generator = torch.Generator(device).manual_seed(seed)
        self._learnt = {"actor": _learning(self.actor), "critic": _learning(self.critic)}
        self._targets = {"actor": _counterparts(self.actor, self.actor_target)}
        self._targets["critic"] = _counterparts(self.critic, self.critic_target)
        self._optimizers = {
            "actor": _adam(self.actor, self.actor.features, config),
            "critic": _adam(self.critic, self.critic.features, config),
        }
        self.updates = 0

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One critic update and, every `policy_delay` of them, one of the actor and the targets.

        Returns detached scalars: `critic_loss` and `q_mean`, with an actor update `actor_loss` and `cloning_error` too.
        """
        self.updates += 1
        goal = self.bellman_goal(batch)
        values = self.critic(batch["observations"], batch["actions"], batch.get("state"), batch.get("pair"))
        loss = (values - goal).square().mean(1).sum()
        self._descend("critic", loss)
        metrics = {"critic_loss": loss.detach(), "q_mean": values.detach()[0].mean()}
        if self.updates % self.config.policy_delay == 0:
            loss, cloning = self._actor_loss(batch)
            self._descend("actor", loss)
            metrics |= {"actor_loss": loss.detach(), "cloning_error": cloning.detach()}
            for name, targets in self._targets.items():
                torch._foreach_lerp_(targets, [p.detach() for p in self._learnt[name]], self.config.polyak)
        return metrics

    @torch.no_grad()
    def bellman_goal(self, batch: Batch) -> Tensor:
        """What both Qs regress, (B,)."""
        observations, state = batch["next_observations"], batch.get("next_state")
        actions = self.target_actions(observations, state)
        following = self.critic_target(observations, actions, state).amin(0)
        return batch["rewards"] + self.config.discount * (1.0 - batch["terminated"]) * following

    @torch.no_grad()
    def target_actions(self, observations: Tensor, state: Tensor | None = None) -> Tensor:
        """The target actor's actions, (B, action_dim) in [-1, 1], with clipped noise: target policy smoothing."""
        actions: Tensor = self.actor_target(observations, state)
        noise = torch.randn(actions.shape, generator=self._generator, device=actions.device)
        clip = self.config.noise_clip
        return (actions + (noise * self.config.policy_noise).clamp(-clip, clip)).clamp(-1.0, 1.0)

    @torch.no_grad()
    def act(self, observations: Tensor) -> Tensor:
        """Actions (B, action_dim) in (-1, 1) of standardised observations."""
        actions: Tensor = self.actor(observations)
        return actions

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that `update` changes: (tensors by name, the rest for JSON)."""
        tensors: dict[str, Tensor] = {}
        optimizers: dict[str, Any] = {}
        for name, module in self._modules().items():
            tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self._optimizers.items():
            packed, optimizers[name] = pack_optimizer(optimizer)
            tensors |= {f"{name}_optimizer/{key}": value for key, value in packed.items()}
        generator = pack_torch_generator(self._generator)
        return tensors, {"updates": self.updates, "optimizers": optimizers, "generator": generator}

    def restore(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Continue where the learner stood that was packed; sizes and settings must be the same."""

        def under(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}

        for name, module in self._modules().items():
            module.load_state_dict(under(name))
        for name, optimizer in self._optimizers.items():
            unpack_optimizer(optimizer, under(f"{name}_optimizer"), state["optimizers"][name])
        unpack_torch_generator(state["generator"], self._generator)
        self.updates = state["updates"]

    def _modules(self) -> dict[str, nn.Module]:
        return {
            "actor": self.actor,
            "critic": self.critic,
            "actor_target": self.actor_target,
            "critic_target": self.critic_target,
        }

    def _actor_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(loss, squared distance to the data's actions)."""
        state = batch.get("state")
        actions = self.actor(batch["observations"], state)
        # A critic that learns its own features reads those, not the actor's.
        values = self.critic.first(batch["observations"], actions, state)
        cloning = (actions - batch["actions"]).square().mean()
        if not self.config.behaviour_cloning:
            return -values.mean(), cloning
        weight = self.config.alpha / values.detach().abs().mean()
        return cloning - weight * values.mean(), cloning

    def _descend(self, name: str, loss: Tensor) -> None:
        """A step of the parameters that belong to a loss; gradients of no others are computed."""
        learnt = self._learnt[name]
        for parameter, gradient in zip(learnt, torch.autograd.grad(loss, learnt, allow_unused=True), strict=True):
            # The fused optimizer on the CPU walks both in memory order, so they must lie alike.
            parameter.grad = None if gradient is None else gradient.contiguous()
        self._optimizers[name].step()


def _learning(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _target(network: Actor | TwinCritic) -> nn.Module:
    """A copy that does not learn by gradients; frozen features are shared with it."""
    shared = {id(network.features): network.features} if network.features.constant else {}
    return copy.deepcopy(network, shared).requires_grad_(False)


def _counterparts(network: nn.Module, target: nn.Module) -> list[Tensor]:
    """The target's tensors in the order of the network's learning parameters."""
    copies = dict(target.named_parameters())
    return [copies[name].data for name, parameter in network.named_parameters() if parameter.requires_grad]


def _adam(network: nn.Module, features: Features, config: TD3Config) -> torch.optim.Adam:
    encoder = _learning(features)
    others = [p for p in _learning(network) if all(p is not inside for inside in encoder)]
    groups: list[dict[str, Any]] = [{"params": others, "lr": config.learning_rate}]
    if encoder:
        groups.append({"params": encoder, "lr": config.encoder_learning_rate})
    return torch.optim.Adam(groups, fused=True)
