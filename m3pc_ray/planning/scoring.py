"""min(Q1, Q2) of many states and actions, with the product that is most of the work in the planner's dtype."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from m3pc_ray.critic.iql import IQLCritic


class Scorer(Protocol):
    """Whatever values actions; the critic itself is one."""

    def q_min(self, observations: Tensor, actions: Tensor) -> Tensor:
        """(...,) of raw observations (..., observation_dim) and actions (..., action_dim)."""
        ...


class FastScorer:
    """`IQLCritic.q_min` on a snapshot of the weights.

    In bfloat16 only the product between the hidden layers is low precision: nine tenths of the work. Inputs, sums and
    the output stay float32, since Qs of hundreds that differ by less than 1 must keep their order. Measured on two
    trained Hopper runs: the noise is 1 to 4 % of the utilities' spread within a decision, less than the model's own.
    """

    def __init__(self, critic: IQLCritic, dtype: torch.dtype = torch.float32) -> None:
        self._source, self._dtype = critic, dtype
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Takes over the present weights."""
        network = self._source.q_target if self._source.score_with_target else self._source.q
        self._weights = [weight.detach().clone() for weight in network.weights]
        self._biases = [bias.detach().clone() for bias in network.biases]
        self._weights[1] = self._weights[1].to(self._dtype)
        self._mean, self._std = self._source.states_mean.clone(), self._source.states_std.clone()
        self._value_mean, self._value_std = self._source.value_mean.clone(), self._source.value_std.clone()

    @torch.inference_mode()
    def q_min(self, observations: Tensor, actions: Tensor) -> Tensor:
        leading, members = observations.shape[:-1], self._weights[0].shape[0]
        inputs = torch.cat([(observations - self._mean) / self._std, actions], dim=-1).flatten(0, -2)
        hidden = torch.baddbmm(self._biases[0], inputs.expand(members, *inputs.shape), self._weights[0]).relu_()
        hidden = torch.bmm(hidden.to(self._dtype), self._weights[1]).float().add_(self._biases[1]).relu_()
        # One column is no matrix: torch's batched product takes six times as long over it as multiplying and adding.
        values = ((hidden * self._weights[2].transpose(1, 2)).sum(-1) + self._biases[2].squeeze(-1)).amin(0)
        return (self._value_mean + self._value_std * values).view(leading)
