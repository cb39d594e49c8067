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
from m3pc_ray.critic.iql import IQLCritic

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


# Members of the stack: Q1, Q2, V, then the targets of Q1 and Q2. An update also evaluates V on the next observations.
_LEARNT, _TARGETS, _NEXT_VALUE, _EVALUATIONS = slice(0, 3), slice(3, 5), 5, 6
_V = slice(2, 3)


class _Stack:
    """The parameters of Q, V and the targets in one flat tensor, of which the networks' own become views.

    V reads observations only; its first layer has rows for the actions too, which stay 0 as their inputs are.
    """

    def __init__(self, critic: IQLCritic) -> None:
        q, v, target = critic.q, critic.v, critic.q_target
        shapes = []
        for weight, bias in zip(q.weights, q.biases, strict=True):
            shapes += [(5, *weight.shape[1:]), (5, *bias.shape[1:])]
        sizes = [torch.Size(shape).numel() for shape in shapes]
        first = q.weights[0]
        self.flat = nn.Parameter(torch.zeros(sum(sizes), dtype=first.dtype, device=first.device), requires_grad=False)
        self.flat.grad = torch.zeros_like(self.flat)
        values, gradients = (
            [part.view(shape) for part, shape in zip(tensor.split(sizes), shapes, strict=True)]
            for tensor in (self.flat.data, self.flat.grad)
        )
        self.weights, self.biases = values[::2], values[1::2]
        self.weight_gradients, self.bias_gradients = gradients[::2], gradients[1::2]
        for own, members in ((q, slice(0, 2)), (v, _V), (target, _TARGETS)):
            for layer in range(3):
                inputs = own.weights[layer].shape[1]
                for parameter, stacked, gradient in (
                    (own.weights[layer], self.weights[layer], self.weight_gradients[layer]),
                    (own.biases[layer], self.biases[layer], self.bias_gradients[layer]),
                ):
                    rows = slice(0, inputs) if parameter is own.weights[layer] else slice(None)
                    stacked[members, rows] = parameter.data
                    parameter.data = stacked[members, rows]
                    if own is not target:
                        parameter.grad = gradient[members, rows]

    def follow(self, rate: float) -> None:
        """Polyak averaging: the targets move towards Q1 and Q2."""
        layers = [*self.weights, *self.biases]
        torch._foreach_lerp_([layer[_TARGETS] for layer in layers], [layer[:2] for layer in layers], rate)


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
        # Members of the six evaluations; V comes twice, as it reads both observations.
        self._repeated = torch.tensor([0, 1, 2, 3, 4, 2], device=self._stack.flat.device)
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
        middle[:_NEXT_VALUE].copy_(stack.weights[1])
        middle[_NEXT_VALUE].copy_(middle[2])
        biases = [layer[self._repeated] for layer in stack.biases]
        first = torch.baddbmm(biases[0], inputs, stack.weights[0][self._repeated]).relu_().to(dtype)
        second = torch.baddbmm(biases[1].to(dtype), first, middle).relu_()
        outer = second.float()
        last = stack.weights[2][self._repeated]
        outputs = torch.baddbmm(biases[2], outer, last).squeeze(-1)  # (6, B)

        q_goal = _q_goal(critic, config, batch, outputs[_NEXT_VALUE])
        q_error = outputs[:2] - q_goal
        advantage = outputs[_TARGETS].amin(0) - outputs[2]
        weight = torch.where(advantage > 0, config.expectile, 1.0 - config.expectile)
        pull = weight * advantage
        # d loss / d outputs of Q1, Q2 and V
        column = torch.cat([q_error, -pull.unsqueeze(0)]).mul_(2.0 / size).unsqueeze(-1)
        at_second = column.to(dtype) * last[_LEARNT].transpose(1, 2).to(dtype)
        at_second = torch.ops.aten.threshold_backward(at_second, second[_LEARNT], 0)
        at_first = torch.bmm(at_second, middle[_LEARNT].transpose(1, 2))
        at_first = torch.ops.aten.threshold_backward(at_first, first[_LEARNT], 0).float()
        for layer, (arriving, gradient) in enumerate(((inputs, at_first), (first, at_second), (outer, column))):
            product = torch.bmm(arriving[_LEARNT].transpose(1, 2), gradient)
            stack.weight_gradients[layer][_LEARNT].copy_(product)
            stack.bias_gradients[layer][_LEARNT].copy_(gradient.sum(1, keepdim=True))
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
