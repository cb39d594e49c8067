"""The tanh-squashed Gaussian over actions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

QUADRATURE_NODES = 32
"""Gauss-Hermite nodes of the entropy: error under 1e-4 nats for standard deviations up to 1, 0.02 up to e²."""


def _log_tanh_derivative(pre_tanh: Tensor) -> Tensor:
    """log(1 - tanh(u)²), stable for large |u|."""
    return 2.0 * (math.log(2.0) - pre_tanh - torch.nn.functional.softplus(-2.0 * pre_tanh))


def _quadrature(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE_NODES)
    weights = weights / weights.sum()
    return torch.as_tensor(nodes, device=device, dtype=dtype), torch.as_tensor(weights, device=device, dtype=dtype)


@dataclass(frozen=True)
class SquashedGaussian:
    """a = tanh(mean + exp(log_std) z), z standard normal, independent in every action dimension.

    Args:
        mean: (..., action_dim), before the tanh.
        log_std: (..., action_dim).
        action_clip: actions are clamped to ±(1 - action_clip) before the inverse tanh, so that logged actions at the
            bounds have a finite likelihood.
    """

    mean: Tensor
    log_std: Tensor
    action_clip: float = 1e-3

    def map(self, change: Callable[[Tensor], Tensor]) -> SquashedGaussian:
        """The distribution with `change` applied to its mean and to its log standard deviation."""
        return SquashedGaussian(change(self.mean), change(self.log_std), self.action_clip)

    def with_std(self, std: float) -> SquashedGaussian:
        """The same mean with one standard deviation everywhere."""
        return SquashedGaussian(self.mean, torch.full_like(self.log_std, math.log(std)), self.action_clip)

    def mode(self) -> Tensor:
        """tanh(mean), (..., action_dim): the median of every dimension."""
        return torch.tanh(self.mean)

    def expectation(self) -> Tensor:
        """E[a], (..., action_dim), by Gauss-Hermite quadrature; nearer to 0 than the mode where the spread is wide."""
        nodes, weights = _quadrature(self.mean.device, self.mean.dtype)
        pre_tanh = self.mean.unsqueeze(-1) + self.log_std.exp().unsqueeze(-1) * nodes
        return (torch.tanh(pre_tanh) * weights).sum(-1)

    def sample(self, noise: Tensor) -> Tensor:
        """Actions (..., action_dim) for standard normal `noise` that broadcasts against the mean."""
        return torch.tanh(self.mean + self.log_std.exp() * noise)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log density (...,) of actions (..., action_dim) in (-1, 1), summed over action dimensions."""
        bound = 1.0 - self.action_clip
        pre_tanh = torch.atanh(actions.clamp(-bound, bound))
        standardised = (pre_tanh - self.mean) * torch.exp(-self.log_std)
        gaussian = -0.5 * standardised.square() - self.log_std - 0.5 * math.log(2.0 * math.pi)
        return (gaussian - _log_tanh_derivative(pre_tanh)).sum(-1)

    def entropy(self) -> Tensor:
        """Differential entropy (...,) in nats, summed over action dimensions.

        H = 0.5 log(2 pi e std²) + E[log(1 - tanh(u)²)]; the expectation by Gauss-Hermite quadrature, so it has no
        sampling noise and reproducible gradients.
        """
        nodes, weights = _quadrature(self.mean.device, self.mean.dtype)
        pre_tanh = self.mean.unsqueeze(-1) + self.log_std.exp().unsqueeze(-1) * nodes
        correction = (_log_tanh_derivative(pre_tanh) * weights).sum(-1)
        gaussian = 0.5 * math.log(2.0 * math.pi * math.e) + self.log_std
        return (gaussian + correction).sum(-1)
