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


def softmax_probabilities(utilities: Tensor, sharpness: float) -> Tensor:
    """Eq. 4: P = softmax(xi U) over the candidates, (B, N) -> (B, N); in float64, for utilities in the thousands."""
    return torch.softmax(sharpness * utilities.double(), dim=-1)


def effective_sample_size(probabilities: Tensor) -> Tensor:
    """1 / sum P², (B, N) -> (B,): 1 where one candidate takes all, N where all are alike."""
    return 1.0 / probabilities.square().sum(-1)
