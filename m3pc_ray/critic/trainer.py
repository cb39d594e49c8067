"""IQL updates (eq. 9 of M³PC).

`losses` is the plain form. `IQLTrainer.update` computes the same gradients by hand. The parameters of all networks lie
stacked in one tensor, so that the six evaluations of an update are one batched product a layer, and Adam and Polyak
averaging one call each; and the bookkeeping of autograd, which at batch 256 costs as much as the arithmetic, is gone. A
test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

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


# The evaluations of an update: Q1, Q2, V, then the targets of Q1 and Q2, then V again, on the next observations.
_LEARNT, _TARGETS, _NEXT_VALUE, _EVALUATIONS = slice(0, 3), slice(3, 5), 5, 6
_V = slice(2, 3)


class _Stack:
    """The parameters of Q and V in one flat tensor, those of the targets in another; the networks' own become views.

    V reads observations only; its first layer has rows for the actions too, which stay 0 as their inputs are.
    """

    def __init__(self, critic: IQLCritic) -> None:
        q, v, target = critic.q, critic.v, critic.q_target
        self.flat = _flat(q, 3)
        self.flat.grad = torch.zeros_like(self.flat)
        self.weights, self.biases = _layers(self.flat.data, q, 3)
        self.weight_gradients, self.bias_gradients = _layers(self.flat.grad, q, 3)
        self.target_weights, self.target_biases = _layers(_flat(target, 2).data, target, 2)
        for own, members in ((q, slice(0, 2)), (v, _V)):
            for layer in range(3):
                rows = slice(0, own.weights[layer].shape[1])
                _become(own.weights[layer], self.weights[layer][members, rows])
                _become(own.biases[layer], self.biases[layer][members])
                own.weights[layer].grad = self.weight_gradients[layer][members, rows]
                own.biases[layer].grad = self.bias_gradients[layer][members]
        for layer in range(3):
            _become(target.weights[layer], self.target_weights[layer])
            _become(target.biases[layer], self.target_biases[layer])

    def evaluated_weights(self, layer: int) -> Tensor:
        """Copies of a layer's weights by evaluation, (6, in, out)."""
        return torch.cat([self.weights[layer], self.target_weights[layer], self.weights[layer][_V]])

    def evaluated_biases(self, layer: int) -> Tensor:
        """(6, 1, out)."""
        return torch.cat([self.biases[layer], self.target_biases[layer], self.biases[layer][_V]])

    def follow(self, rate: float) -> None:
        """Polyak averaging: the targets move towards Q1 and Q2."""
        learnt = [layer[:2] for layer in (*self.weights, *self.biases)]
        torch._foreach_lerp_([*self.target_weights, *self.target_biases], learnt, rate)


def _shapes(network: ParallelMLP, members: int) -> list[torch.Size]:
    """Of the weights and biases of every layer in turn."""
    layers = zip(network.weights, network.biases, strict=True)
    return [torch.Size((members, *parameter.shape[1:])) for layer in layers for parameter in layer]


def _flat(network: ParallelMLP, members: int) -> nn.Parameter:
    like = network.weights[0]
    size = sum(shape.numel() for shape in _shapes(network, members))
    return nn.Parameter(torch.zeros(size, dtype=like.dtype, device=like.device), requires_grad=False)


def _layers(flat: Tensor, network: ParallelMLP, members: int) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and biases of every layer as views of a flat tensor."""
    shapes = _shapes(network, members)
    parts = flat.split([shape.numel() for shape in shapes])
    views = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
    return views[::2], views[1::2]


def _become(parameter: Tensor, view: Tensor) -> None:
    """The parameter keeps its values and lives in the view from now on."""
    view.copy_(parameter.data)
    parameter.data = view


class IQLTrainer:
    """Optimizer and update of an `IQLCritic`.

    Args:
        critic: trained in place. Its parameters become views of the trainer's; it must stay on its device.
        config: its settings.
        dtype: of the product between the hidden layers; see docs/results.md for what bfloat16 changes.
    """

    def __init__(self, critic: IQLCritic, config: CriticConfig, dtype: torch.dtype = torch.float32) -> None:
        self.critic, self.config, self.dtype = critic, config, dtype
        self._stack = _Stack(critic)
        self.optimizer = torch.optim.Adam([self._stack.flat], lr=config.learning_rate, fused=True)
        between = self._stack.weights[1]
        self._middle = between.new_empty((_EVALUATIONS, *between.shape[1:]), dtype=dtype)

    def optimizers(self) -> dict[str, Any]:
        """Optimizers by the name they have in a checkpoint."""
        return {"critic_optimizer": self.optimizer}

    @torch.no_grad()
    def update(self, batch: Batch, learning_rate_factor: float = 1.0) -> dict[str, Tensor]:
        """One gradient step and one Polyak step; returns the scalars `value_loss` and `q_loss`."""
        value_loss, q_loss = self.backward(batch)
        self.optimizer.param_groups[0]["lr"] = self.config.learning_rate * learning_rate_factor
        self.optimizer.step()
        self._stack.follow(self.config.polyak)
        return {"value_loss": value_loss, "q_loss": q_loss}

    @torch.no_grad()
    def backward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Fills the gradients of Q and V and returns (value loss, Q loss)."""
        critic, config, stack, dtype = self.critic, self.config, self._stack, self.dtype
        inputs = self._inputs(batch)
        size = inputs.shape[1]
        middle = self._middle
        middle[_LEARNT].copy_(stack.weights[1])
        middle[_TARGETS].copy_(stack.target_weights[1])
        middle[_NEXT_VALUE].copy_(middle[2])
        biases = [stack.evaluated_biases(layer) for layer in range(3)]
        first = torch.baddbmm(biases[0], inputs, stack.evaluated_weights(0)).relu_().to(dtype)
        second = torch.baddbmm(biases[1].to(dtype), first, middle).relu_()
        outer = second.float()
        last = stack.evaluated_weights(2).transpose(1, 2)  # (6, 1, width)
        # One column is no matrix: torch's batched product takes six times as long over it as multiplying and adding.
        outputs = (outer * last).sum(-1) + biases[2].squeeze(-1)  # (6, B)

        q_goal = _q_goal(critic, config, batch, outputs[_NEXT_VALUE])
        q_error = outputs[:2] - q_goal
        advantage = outputs[_TARGETS].amin(0) - outputs[2]
        weight = torch.where(advantage > 0, config.expectile, 1.0 - config.expectile)
        pull = weight * advantage
        # d loss / d outputs of Q1, Q2 and V
        column = torch.cat([q_error, -pull.unsqueeze(0)]).mul_(2.0 / size).unsqueeze(-1)
        at_second = column.to(dtype) * last[_LEARNT].to(dtype)
        at_second = torch.ops.aten.threshold_backward(at_second, second[_LEARNT], 0)
        at_first = torch.bmm(at_second, middle[_LEARNT].transpose(1, 2))
        at_first = torch.ops.aten.threshold_backward(at_first, first[_LEARNT], 0).float()
        for layer, (arriving, gradient) in enumerate(((inputs, at_first), (first, at_second))):
            product = torch.bmm(arriving[_LEARNT].transpose(1, 2), gradient)
            stack.weight_gradients[layer].copy_(product)
            stack.bias_gradients[layer].copy_(gradient.sum(1, keepdim=True))
        stack.weight_gradients[2].copy_(torch.bmm(column.transpose(1, 2), outer[_LEARNT]).transpose(1, 2))
        stack.bias_gradients[2].copy_(column.sum(1, keepdim=True))
        return (pull * advantage).mean(), q_error.square().mean(1).sum(0)

    def _inputs(self, batch: Batch) -> Tensor:
        """(6, B, observation_dim + action_dim): what each evaluation reads, V with zeros for the actions."""
        critic = self.critic
        states, following = critic.standardise(batch["observations"]), critic.standardise(batch["next_observations"])
        dim = critic.observation_dim
        inputs = states.new_zeros(_EVALUATIONS, len(states), dim + critic.action_dim)
        inputs[:, :, :dim] = states
        inputs[_NEXT_VALUE, :, :dim] = following
        inputs[:2, :, dim:] = batch["actions"]
        inputs[_TARGETS, :, dim:] = batch["actions"]
        return inputs
