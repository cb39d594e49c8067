"""The deterministic choice: no candidate, but their probability-weighted average (`planner.average`)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from m3pc_ray.model.distribution import SquashedGaussian

Average = Literal["around_mode", "around_mean", "plain"]


def average_actions(
    proposal: SquashedGaussian, noise: Tensor, candidates: Tensor, probabilities: Tensor, kind: Average
) -> Tensor:
    """Actions (B, steps, action_dim) of `steps` planned steps; Algorithm 1 plays the first of them.

    Around mode and mean the uniform average is taken out, a control variate: what the draw happened to be in all
    candidates alike says nothing about which are better, and with xi 0 nothing of it is left.

    Args:
        proposal: of the RCBC pass, mean and log_std (B, steps, action_dim).
        noise: (B, N, steps, action_dim) standard normal, what the candidates were drawn with.
        candidates: (B, N, steps, action_dim).
        probabilities: (B, N), eq. 4.
        kind: the setting.
    """
    weights = probabilities.to(noise.dtype)[:, :, None, None]
    excess = weights - 1.0 / noise.shape[1]
    if kind == "around_mode":
        return proposal.sample((excess * noise).sum(1))
    if kind == "around_mean":
        return (proposal.expectation() + (excess * candidates).sum(1)).clamp(-1.0, 1.0)
    return (weights * candidates).sum(1)
