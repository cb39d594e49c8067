"""IQL updates (eq. 9 of M³PC).

`losses` is the plain form. `IQLTrainer.update` computes the same gradients by hand: it evaluates the online and the
target Q networks as one batched product, V on both observations as another, and skips the bookkeeping of autograd,
which at batch 256 costs as much as the arithmetic. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from m3pc_ray.config import CriticConfig
from m3pc_ray.critic.iql import IQLCritic, ParallelMLP

Batch = Mapping[str, Tensor]
"""observations, next_observations (B, observation_dim) raw; actions (B, action_dim); rewards, terminated (B,)."""


def losses(critic: IQLCritic, config: CriticConfig, batch: Batch) -> tuple[Tensor, Tensor]:
    """(value loss, Q loss), in units of the values' variance: the oracle of `IQLTrainer.update`.

    V regresses the expectile of min(target Q1, target Q2) over the data's actions, both Qs regress r + gamma V(s') with
    no bootstrap after a true termination.
    """
    states = critic.standardise(batch["observations"])
    pairs = torch.cat([states, batch["actions"]], dim=-1)
    with torch.no_grad():
        target_q = critic.q_target(pairs).amin(0)
        next_value = critic.v(critic.standardise(batch["next_observations"]))[0]
        q_goal = _q_goal(critic, config, batch, next_value)
    advantage = target_q - critic.v(states)[0]
    weight = torch.where(advantage > 0, config.expectile, 1.0 - config.expectile)
    value_loss = (weight * advantage.square()).mean()
    q_loss = (critic.q(pairs) - q_goal).square().mean(1).sum(0)
    return value_loss, q_loss


def _q_goal(critic: IQLCritic, config: CriticConfig, batch: Batch, next_value: Tensor) -> Tensor:
    """r + gamma V(s'), in the networks' units, (B,); `next_value` (B,) in the same units."""
    continues = 1.0 if config.bootstrap_through_terminations else 1.0 - batch["terminated"].float()
    goal = batch["rewards"] + config.discount * continues * critic.raw(next_value)
    return (goal - critic.value_mean) / critic.value_std


@dataclass(frozen=True)
class _Activations:
    """What the backward pass of a `ParallelMLP` needs."""

    inputs: Tensor  # (members, B, in)
    first: Tensor  # (members, B, hidden), after ReLU
    second: Tensor  # (members, B, hidden), after ReLU
    outputs: Tensor  # (members, B), float32


def _forward(weights: list[Tensor], biases: list[Tensor], inputs: Tensor, dtype: torch.dtype) -> _Activations:
    first = torch.baddbmm(biases[0], inputs, weights[0]).relu_().to(dtype)
    second = torch.baddbmm(biases[1].to(dtype), first, weights[1].to(dtype)).relu_()
    outputs = torch.baddbmm(biases[2], second.float(), weights[2]).squeeze(-1)
    return _Activations(inputs, first, second, outputs)


def _assign_gradients(network: ParallelMLP, run: _Activations, output_gradient: Tensor) -> None:
    """Backward pass of `_forward` for d loss / d outputs (members, B); fills `.grad` of the network's parameters."""
    dtype = run.first.dtype
    last, middle = network.weights[2].detach(), network.weights[1].detach().to(dtype)
    column = output_gradient.unsqueeze(-1)
    at_second = torch.ops.aten.threshold_backward(column.to(dtype) * last.transpose(1, 2).to(dtype), run.second, 0)
    at_first = torch.ops.aten.threshold_backward(torch.bmm(at_second, middle.transpose(1, 2)), run.first, 0).float()
    gradients = (
        (torch.bmm(run.inputs.transpose(1, 2), at_first), at_first.sum(1, keepdim=True)),
        (torch.bmm(run.first.transpose(1, 2), at_second), at_second.sum(1, keepdim=True)),
        (torch.bmm(run.second.float().transpose(1, 2), column), column.sum(1, keepdim=True)),
    )
    for weight, bias, (for_weight, for_bias) in zip(network.weights, network.biases, gradients, strict=True):
        weight.grad, bias.grad = for_weight.float(), for_bias.float()


class IQLTrainer:
    """Optimizer and update of an `IQLCritic`.

    Args:
        critic: trained in place.
        config: its settings.
        dtype: of the product between the hidden layers; see docs/results.md for what bfloat16 changes.
    """

    def __init__(self, critic: IQLCritic, config: CriticConfig, dtype: torch.dtype = torch.float32) -> None:
        self.critic, self.config, self.dtype = critic, config, dtype
        learnt = [*critic.q.parameters(), *critic.v.parameters()]
        self.optimizer = torch.optim.Adam(learnt, lr=config.learning_rate, fused=True)
        self._online: list[Tensor] = list(critic.q.parameters())
        self._target: list[Tensor] = list(critic.q_target.parameters())

    def optimizers(self) -> dict[str, Any]:
        """Optimizers by the name they have in a checkpoint."""
        return {"critic_optimizer": self.optimizer}

    @torch.no_grad()
    def update(self, batch: Batch, learning_rate_factor: float = 1.0) -> dict[str, Tensor]:
        """One gradient step and one Polyak step; returns the scalars `value_loss` and `q_loss`."""
        value_loss, q_loss = self.backward(batch)
        self.optimizer.param_groups[0]["lr"] = self.config.learning_rate * learning_rate_factor
        self.optimizer.step()
        torch._foreach_lerp_(self._target, self._online, self.config.polyak)
        return {"value_loss": value_loss, "q_loss": q_loss}

    @torch.no_grad()
    def backward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Fills the gradients of Q and V and returns (value loss, Q loss)."""
        critic, config = self.critic, self.config
        states = critic.standardise(batch["observations"])
        size = len(states)
        pairs = torch.cat([states, batch["actions"]], dim=-1)
        both = torch.cat([states, critic.standardise(batch["next_observations"])]).unsqueeze(0)
        # Members 0 and 1 are the online networks, 2 and 3 the targets.
        weights = [torch.cat(pair) for pair in zip(critic.q.weights, critic.q_target.weights, strict=True)]
        biases = [torch.cat(pair) for pair in zip(critic.q.biases, critic.q_target.biases, strict=True)]
        of_q = _forward(weights, biases, pairs.expand(4, *pairs.shape), self.dtype)
        of_v = _forward(list(critic.v.weights), list(critic.v.biases), both, self.dtype)
        value, next_value = of_v.outputs[0, :size], of_v.outputs[0, size:]
        q_goal = _q_goal(critic, config, batch, next_value)
        q_error = of_q.outputs[:2] - q_goal
        advantage = of_q.outputs[2:].amin(0) - value
        weight = torch.where(advantage > 0, config.expectile, 1.0 - config.expectile)
        online = _Activations(of_q.inputs[:2], of_q.first[:2], of_q.second[:2], of_q.outputs[:2])
        present = _Activations(both[:, :size], of_v.first[:, :size], of_v.second[:, :size], of_v.outputs[:, :size])
        _assign_gradients(critic.q, online, q_error * (2.0 / size))
        _assign_gradients(critic.v, present, (weight * advantage * (-2.0 / size)).unsqueeze(0))
        return (weight * advantage.square()).mean(), q_error.square().mean(1).sum(0)
