"""Utility of a candidate (eq. 3) and the probabilities made from it (eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor


def td_lambda_weights(horizon: int, td_lambda: float) -> Tensor:
    """Weights (h,) of the n-step returns G_0..G_{h-1} in eq. 3; they sum to 1.

    (1 - lambda) lambda^n for n < h - 1 and lambda^(h-1) for the last: h = 4, lambda = 0.6 gives .4, .24, .144, .216.
    """
    weights = td_lambda ** torch.arange(horizon, dtype=torch.float64)
    weights[:-1] *= 1.0 - td_lambda
    return weights.float()


def utility(rewards: Tensor, terminal_values: Tensor, discount: float, td_lambda: float) -> Tensor:
    """Eq. 3, counted from 0: U = sum_n w_n G_n, G_n = sum_{k<n} gamma^k r_{t+k} + gamma^n g_{t+n}, n = 0..h-1.

    Args:
        rewards: (..., h) or (..., h - 1), r_t, r_{t+1}, ...; r_{t+h-1} belongs to no G_n and is not read.
        terminal_values: (..., h), g_t..g_{t+h-1}: returns-to-go (M³PC-M) or min(Q1, Q2) (M³PC-Q).

    Returns:
        (...,).
    """
    horizon = terminal_values.shape[-1]
    weights = td_lambda_weights(horizon, td_lambda).to(terminal_values)
    discounts = discount ** torch.arange(horizon, dtype=terminal_values.dtype, device=terminal_values.device)
    result = (terminal_values * (weights * discounts)).sum(-1)
    if horizon > 1:
        # r_{t+k} is part of every G_n with n > k: its weight is the sum of theirs.
        later_weights = weights.flip(0).cumsum(0).flip(0)[1:]
        result = result + (rewards[..., : horizon - 1] * (later_weights * discounts[:-1])).sum(-1)
    return result


def utility_units(utilities: Tensor, unit: float, wide_spread: str) -> Tensor:
    """What utilities (B, N) are divided by before xi multiplies them, (B, 1).

    `trust`: the unit. `distrust`: where a decision's spread s (standard deviation over candidates) is above the unit,
    s² / unit, so that the wider they spread the less they are followed: s / unit becomes unit / s. Spread grows where
    a plan has left the paths that the data knows (it doubled 100 steps before falls on hopper-medium while V already
    sank), and following utilities more eagerly there is what makes it fall.
    """
    units = torch.full_like(utilities[:, :1], unit)
    if wide_spread == "trust":
        return units
    return units.maximum(utilities.std(1, correction=0, keepdim=True).square() / unit)


def softmax_probabilities(utilities: Tensor, sharpness: float) -> Tensor:
    """Eq. 4: P = softmax(xi U) over the candidates, (B, N) -> (B, N); in float64, for utilities in the thousands."""
    return torch.softmax(sharpness * utilities.double(), dim=-1)


def utility_slope(noise: Tensor, utilities: Tensor) -> Tensor:
    """How utility rises with the noise that candidates were drawn with: ridge regression on all scored steps together.

    For standard normal noise z and a utility linear in it, U = c + g.z, the mean of z under P = softmax(xi U) over
    infinitely many candidates is xi g (complete the square), and for any U it is xi E[z U] to first order in xi, which
    is what the regression finds (Stein's lemma). The weighted mean over N candidates estimates the same, with the
    error of that draw on top: what all candidates happen to have in common, and what the later steps contribute. The
    regression takes both out.

    Args:
        noise: (B, N, h, action_dim), of the steps that the utility reads.
        utilities: (B, N).

    Returns:
        (B, h, action_dim), utility per standard deviation of the noise. The ridge is dimensions / N, in units of the
        noise's variance: it shrinks by a tenth at 12 dimensions and 128 candidates, and keeps few candidates solvable.
    """
    count = noise.shape[1]
    inputs = (noise - noise.mean(1, keepdim=True)).flatten(2)  # (B, N, D)
    targets = utilities - utilities.mean(1, keepdim=True)
    covariance = inputs.transpose(1, 2) @ inputs / count
    covariance.diagonal(dim1=1, dim2=2).add_(inputs.shape[2] / count)
    slope = torch.linalg.solve(covariance, (inputs * targets.unsqueeze(-1)).mean(1))
    return slope.view(noise.shape[0], *noise.shape[2:])


def effective_sample_size(probabilities: Tensor) -> Tensor:
    """1 / sum P², (B, N) -> (B,): 1 where one candidate takes all, N where all are alike."""
    return 1.0 / probabilities.square().sum(-1)
