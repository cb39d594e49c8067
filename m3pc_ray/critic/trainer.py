"""IQL updates (eq. 9 of M³PC).

`losses` is the plain form. `IQLTrainer.update` computes the same gradients by hand. The parameters of all networks lie
stacked in one tensor, so that the evaluations of an update, six with two Qs, are one batched product a layer, and Adam
and Polyak averaging one call each; and the bookkeeping of autograd, which at batch 256 costs as much as the arithmetic,
is gone. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from m3pc_ray.config import CriticConfig
from m3pc_ray.critic.dynamics import UPDATE_EVERY, DynamicsTrainer
from m3pc_ray.critic.iql import NORM_EPSILON, IQLCritic, ParallelMLP

Batch = Mapping[str, Tensor]
"""observations, next_observations (B, observation_dim) raw; actions (B, action_dim); rewards, terminated (B,)."""


TARGETS = 2
"""Target Qs whose minimum an update takes, M of REDQ."""


def losses(
    critic: IQLCritic, config: CriticConfig, batch: Batch, targets: Sequence[int] = (0, 1)
) -> tuple[Tensor, Tensor]:
    """(value loss, Q loss), in units of the values' variance: the oracle of `IQLTrainer.update`.

    V regresses the expectile of the smaller of the two target Qs that `targets` names over the data's actions, all Qs
    regress r + gamma V(s') with no bootstrap after a true termination.
    """
    states = critic.standardise(batch["observations"])
    pairs = torch.cat([states, batch["actions"]], dim=-1)
    with torch.no_grad():
        target_q = critic.q_target(pairs)[list(targets)].amin(0)
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


def drawn_targets(seed: int, update: int, ensemble_size: int) -> list[int]:
    """The target Qs of an update, in rising order: any two alike, decided by the run's seed and the update's number."""
    counter = np.array([0, 0, 0, update], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, 0], dtype=np.uint64), counter=counter))
    return sorted(generator.choice(ensemble_size, TARGETS, replace=False).tolist())


class _Views:
    """The parameters of several perceptrons as views of one flat tensor, by kind and layer: (members, ...) each."""

    def __init__(self, flat: Tensor, network: ParallelMLP, members: int) -> None:
        shapes = [torch.Size((members, *parameter.shape[1:])) for parameter in _parameters(network)]
        parts = flat.split([shape.numel() for shape in shapes])
        self.all = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        self.weights, self.biases = self.all[0:6:2], self.all[1:6:2]
        self.scales, self.shifts = self.all[6::2], self.all[7::2]


class _Stack:
    """The parameters of Q and V in one flat tensor, those of the targets in another; the networks' own become views.

    V, the last member, reads observations only; its first layer has rows for the actions too, which stay 0 as their
    inputs are.
    """

    def __init__(self, critic: IQLCritic) -> None:
        q, v, target = critic.q, critic.v, critic.q_target
        self.size = q.weights[0].shape[0]
        members = self.size + 1
        self.flat = _flat(q, members)
        self.flat.grad = torch.zeros_like(self.flat)
        self.learnt, self.gradients = (_Views(part, q, members) for part in (self.flat.data, self.flat.grad))
        self.targets = _Views(_flat(target, self.size).data, target, self.size)
        for own, rows in ((q, slice(0, self.size)), (v, slice(self.size, members))):
            for parameter, view, gradient in zip(_parameters(own), self.learnt.all, self.gradients.all, strict=True):
                inputs = slice(0, parameter.shape[1])
                _become(parameter, view[rows, inputs])
                parameter.grad = gradient[rows, inputs]
        for parameter, view in zip(_parameters(target), self.targets.all, strict=True):
            _become(parameter, view)

    def evaluated(self, kind: str, layer: int, targets: list[int] | slice) -> Tensor:
        """Copies of a layer's `weights`, `biases`, ... by evaluation, (members + 3, ...).

        Every Q and V, then the targets named, then V again, on the next observations.
        """
        learnt, target = getattr(self.learnt, kind)[layer], getattr(self.targets, kind)[layer]
        return torch.cat([learnt, target[targets], learnt[self.size :]])

    def follow(self, rate: float) -> None:
        """Polyak averaging: the targets move towards the Qs."""
        torch._foreach_lerp_(self.targets.all, [parameter[: self.size] for parameter in self.learnt.all], rate)


def _parameters(network: ParallelMLP) -> list[nn.Parameter]:
    """Weights and biases of every layer in turn, then scales and shifts of the norms."""
    layers = zip(network.weights, network.biases, strict=True)
    norms = zip(network.norm_scales, network.norm_shifts, strict=True)
    return [parameter for pair in (*layers, *norms) for parameter in pair]


def _flat(network: ParallelMLP, members: int) -> nn.Parameter:
    like = network.weights[0]
    size = sum(members * parameter[0].numel() for parameter in _parameters(network))
    return nn.Parameter(torch.zeros(size, dtype=like.dtype, device=like.device), requires_grad=False)


def _become(parameter: Tensor, view: Tensor) -> None:
    """The parameter keeps its values and lives in the view from now on."""
    view.copy_(parameter.data)
    parameter.data = view


@dataclass(frozen=True)
class _Normed:
    """What the way back through a LayerNorm needs, by evaluation."""

    before: Tensor  # (evaluations, B, width)
    mean: Tensor  # (evaluations, B, 1)
    inverse_std: Tensor
    normed: Tensor  # (evaluations, B, width), before scale and shift


class IQLTrainer:
    """Optimizers and update of an `IQLCritic`, its dynamics included where it has one.

    Args:
        critic: trained in place. Its parameters become views of the trainer's; it must stay on its device.
        config: its settings.
        dtype: of the product between the hidden layers; see docs/results.md for what bfloat16 changes.
        seed: of the choice of target Qs, where there are more than two.
    """

    def __init__(
        self, critic: IQLCritic, config: CriticConfig, dtype: torch.dtype = torch.float32, seed: int = 0
    ) -> None:
        self.critic, self.config, self.dtype, self.seed = critic, config, dtype, seed
        self._stack = _Stack(critic)
        self.optimizer = torch.optim.Adam([self._stack.flat], lr=config.learning_rate, fused=True)
        between = self._stack.learnt.weights[1]
        # The evaluations of an update: every Q and V, then two targets, then V again, on the next observations.
        members = self._stack.size + 1
        self._learnt, self._targets = slice(0, members), slice(members, members + TARGETS)
        self._value, self._next_value, self._evaluations = members - 1, members + TARGETS, members + TARGETS + 1
        self._middle = between.new_empty((self._evaluations, *between.shape[1:]), dtype=dtype)
        self._dynamics = (
            None if critic.dynamics is None else DynamicsTrainer(critic.dynamics, config.learning_rate, dtype)
        )
        self._dynamics_loss: dict[str, Tensor] = {}
        self._done: int | None = None

    def optimizers(self) -> dict[str, Any]:
        """Optimizers by the name they have in a checkpoint."""
        dynamics = {} if self._dynamics is None else self._dynamics.optimizers()
        return {"critic_optimizer": self.optimizer, **dynamics}

    @torch.no_grad()
    def update(self, batch: Batch, learning_rate_factor: float = 1.0) -> dict[str, Tensor]:
        """One gradient step and one Polyak step; returns the scalars `value_loss`, `q_loss` and `value_mean`.

        Every so many updates one of the dynamics, whose newest loss is `dynamics_loss`.
        """
        number = self._count()
        # Of which targets: where there are only two, both.
        drawn = None if self._stack.size == TARGETS else drawn_targets(self.seed, number, self._stack.size)
        value_loss, q_loss, value_mean = self.backward(batch, drawn)
        self.optimizer.param_groups[0]["lr"] = self.config.learning_rate * learning_rate_factor
        self.optimizer.step()
        self._stack.follow(self.config.polyak)
        if self._dynamics is not None and number % UPDATE_EVERY == 1:
            self._dynamics_loss = {"dynamics_loss": self._dynamics.update(batch, learning_rate_factor)}
        return {"value_loss": value_loss, "q_loss": q_loss, "value_mean": value_mean, **self._dynamics_loss}

    def _count(self) -> int:
        """The number of the next update, from 1."""
        if self._done is None:  # the optimizer, which checkpoints hold, has counted before
            state = self.optimizer.state.get(self._stack.flat)
            self._done = int(state["step"]) if state else 0
        self._done += 1
        return self._done

    @torch.no_grad()
    def backward(self, batch: Batch, targets: list[int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Fills the gradients of Q and V; `targets`: two, None: the first two.

        Returns (value loss, Q loss, mean V of the batch's observations as a plain discounted return).
        """
        critic, config, stack, dtype = self.critic, self.config, self._stack, self.dtype
        chosen = slice(0, TARGETS) if targets is None else targets
        inputs = self._inputs(batch)
        size, learnt = inputs.shape[1], self._learnt
        middle = self._middle
        middle[learnt].copy_(stack.learnt.weights[1])
        middle[self._targets].copy_(stack.targets.weights[1][chosen])
        middle[self._next_value].copy_(middle[self._value])
        biases = [stack.evaluated("biases", layer, chosen) for layer in range(3)]
        first, first_norm = self._activated(
            torch.baddbmm(biases[0], inputs, stack.evaluated("weights", 0, chosen)), 0, chosen
        )
        first = first.to(dtype)
        second, second_norm = self._activated(torch.baddbmm(biases[1].to(dtype), first, middle), 1, chosen)
        outer = second.float()
        last = stack.evaluated("weights", 2, chosen).transpose(1, 2)  # (evaluations, 1, width)
        # One column is no matrix: torch's batched product takes six times as long over it as multiplying and adding.
        outputs = (outer * last).sum(-1) + biases[2].squeeze(-1)  # (evaluations, B)

        q_goal = _q_goal(critic, config, batch, outputs[self._next_value])
        q_error = outputs[: stack.size] - q_goal
        advantage = outputs[self._targets].amin(0) - outputs[self._value]
        weight = torch.where(advantage > 0, config.expectile, 1.0 - config.expectile)
        pull = weight * advantage
        # d loss / d outputs of the Qs and V
        column = torch.cat([q_error, -pull.unsqueeze(0)]).mul_(2.0 / size).unsqueeze(-1)
        at_second = column.to(second.dtype) * last[learnt].to(second.dtype)
        at_second = torch.ops.aten.threshold_backward(at_second, second[learnt], 0)
        at_second = self._behind_norm(at_second, second_norm, 1).to(dtype)
        at_first = torch.bmm(at_second, middle[learnt].transpose(1, 2))
        at_first = torch.ops.aten.threshold_backward(at_first, first[learnt], 0).float()
        at_first = self._behind_norm(at_first, first_norm, 0)
        gradients = stack.gradients
        for layer, (arriving, gradient) in enumerate(((inputs, at_first), (first, at_second))):
            product = torch.bmm(arriving[learnt].transpose(1, 2), gradient)
            gradients.weights[layer].copy_(product)
            gradients.biases[layer].copy_(gradient.sum(1, keepdim=True))
        gradients.weights[2].copy_(torch.bmm(column.transpose(1, 2), outer[learnt]).transpose(1, 2))
        gradients.biases[2].copy_(column.sum(1, keepdim=True))
        value_mean = critic.raw(outputs[self._value].mean())
        return (pull * advantage).mean(), q_error.square().mean(1).sum(0), value_mean

    def _activated(self, x: Tensor, layer: int, targets: list[int] | slice) -> tuple[Tensor, _Normed | None]:
        """ReLU of (evaluations, B, width), in place, normalised in float32 before where the networks do."""
        if not self.config.layer_norm:
            return x.relu_(), None
        x = x.float()
        normed, mean, inverse_std = torch.native_layer_norm(x, x.shape[-1:], None, None, NORM_EPSILON)
        scales, shifts = (self._stack.evaluated(kind, layer, targets) for kind in ("scales", "shifts"))
        return torch.addcmul(shifts, scales, normed).relu_(), _Normed(x, mean, inverse_std, normed)

    def _behind_norm(self, gradient: Tensor, norm: _Normed | None, layer: int) -> Tensor:
        """The gradient (members, B, width) of what was normalised from that of the result; fills those of the norm."""
        if norm is None:
            return gradient
        learnt, stack = self._learnt, self._stack
        stack.gradients.scales[layer].copy_((gradient * norm.normed[learnt]).sum(1, keepdim=True))
        stack.gradients.shifts[layer].copy_(gradient.sum(1, keepdim=True))
        back: Tensor = torch.ops.aten.native_layer_norm_backward(
            gradient * stack.learnt.scales[layer],
            norm.before[learnt],
            gradient.shape[-1:],
            norm.mean[learnt],
            norm.inverse_std[learnt],
            None,
            None,
            [True, False, False],
        )[0]
        return back

    def _inputs(self, batch: Batch) -> Tensor:
        """(evaluations, B, observation_dim + action_dim): what each evaluation reads, V with zeros for the actions."""
        critic = self.critic
        states, following = critic.standardise(batch["observations"]), critic.standardise(batch["next_observations"])
        dim = critic.observation_dim
        inputs = states.new_zeros(self._evaluations, len(states), dim + critic.action_dim)
        inputs[:, :, :dim] = states
        inputs[self._next_value, :, :dim] = following
        inputs[: self._value, :, dim:] = batch["actions"]
        inputs[self._targets, :, dim:] = batch["actions"]
        return inputs
