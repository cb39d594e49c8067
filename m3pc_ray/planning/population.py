"""The candidates of a decision: drawn from one RCBC pass or several, an earlier plan among them, refined, averaged.

Wherever a candidate comes from, it has a place in units of one distribution, the reference: action = tanh(mean + std
noise). What was drawn from the reference has its noise there, everything else is put into these units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from m3pc_ray.config import PlannerConfig
from m3pc_ray.model.distribution import SquashedGaussian
from m3pc_ray.planning.inference import Inference, Window
from m3pc_ray.planning.utility import softmax_probabilities

Average = Literal["around_mode", "around_mean", "plain"]


@dataclass(frozen=True)
class DrawError:
    """What the draw happened to be in all candidates alike, (B, H, action_dim) each; its expectation is 0."""

    noise: Tensor  # mean noise, in the reference's units
    actions: Tensor  # mean distance of the drawn actions from their expectations


@dataclass(frozen=True)
class Population:
    """N candidate sequences of B environments over H = T - t steps.

    Args:
        actions: (B, N, H, action_dim).
        noise: (B, N, H, action_dim), their places in units of the reference.
        reference: mean and log_std (B, H, action_dim).
        error: of the draw it began with; None: it is that draw still, every candidate one of the reference.
    """

    actions: Tensor
    noise: Tensor
    reference: SquashedGaussian
    error: DrawError | None = None

    def __len__(self) -> int:
        return self.actions.shape[1]

    def average(self, probabilities: Tensor, how: Average, steps: int) -> Tensor:
        """Deterministic actions (B, steps, action_dim) of the first steps, for probabilities (B, N).

        Around mode and mean the error of the draw is taken out, a control variate: what it happened to be in all
        candidates alike says nothing about which are better, and with xi 0 nothing of it is left.
        """
        reference = self.reference.map(lambda tensor: tensor[:, :steps])
        noise, actions = self.noise[:, :, :steps], self.actions[:, :, :steps]
        weights = probabilities.to(noise.dtype)[..., None, None]  # (B, N, 1, 1)
        excess = weights - 1.0 / len(self)
        if how == "around_mode":
            moved = (excess * noise).sum(1)
            return reference.sample(
                moved if self.error is None else moved + noise.mean(1) - self.error.noise[:, :steps]
            )
        if how == "around_mean":
            centre = reference.expectation()
            if self.error is not None:
                centre = actions.mean(1) - self.error.actions[:, :steps]
            return (centre + (excess * actions).sum(1)).clamp(-1.0, 1.0)
        return (weights * actions).sum(1)

    def with_error(self) -> Population:
        """The same with its error said, before it becomes something else than a draw."""
        if self.error is not None:
            return self
        distance = self.actions.mean(1) - self.reference.expectation()
        return replace(self, error=DrawError(self.noise.mean(1), distance))

    def with_candidates(self, actions: Tensor) -> Population:
        """Beside those there are, candidates (B, M, H, action_dim) that were not drawn."""
        drawn = self.with_error()
        noise = torch.cat([self.noise, _noise_of(actions, self.reference)], dim=1)
        return replace(drawn, actions=torch.cat([self.actions, actions], dim=1), noise=noise)

    def take(self, rows: Tensor) -> Population:
        """Of every environment the candidates (B, M) alone."""
        drawn = self.with_error()
        return replace(drawn, actions=taken(self.actions, rows), noise=taken(self.noise, rows))


def taken(values: Tensor, rows: Tensor) -> Tensor:
    """Of (B, N, ...) the candidates (B, M) of every environment."""
    return values[torch.arange(len(rows), device=rows.device)[:, None], rows]


def draw(inference: Inference, window: Window, noise: Tensor, asked: Sequence[float]) -> Population:
    """Lines 3-5 of Algorithm 1: N candidates for noise (B, N, H, action_dim).

    Args:
        asked: shares of the way from the data's mean return to the one asked for in `window`, an RCBC pass each, of
            which the candidates are drawn in turn, the first the reference; none: one pass, with the window's return.
    """
    steps = noise.shape[2]
    if not asked:
        reference = inference.propose(window, steps)
        return Population(reference.map(lambda tensor: tensor.unsqueeze(1)).sample(noise), noise, reference)
    count, batch = len(asked), len(noise)
    shares = torch.tensor(asked, dtype=window.returns.dtype, device=window.returns.device)
    several = Window(
        states=window.states.repeat_interleave(count, 0),
        actions=window.actions.repeat_interleave(count, 0),
        # Normalised, the data's mean is 0.
        returns=(window.returns.unsqueeze(1) * shares[:, None, None]).flatten(0, 1),
    )
    proposed = inference.propose(several, steps).map(lambda tensor: tensor.unflatten(0, (batch, count)))
    turns = torch.arange(noise.shape[1], device=noise.device) % count
    own = proposed.map(lambda tensor: tensor[:, turns])  # of every candidate, (B, N, H, action_dim)
    reference = proposed.map(lambda tensor: tensor[:, 0])
    actions, ratio = own.sample(noise), torch.exp(own.log_std - reference.log_std.unsqueeze(1)) * noise
    offset = (own.mean - reference.mean.unsqueeze(1)) * torch.exp(-reference.log_std.unsqueeze(1))
    distance = (actions - proposed.expectation()[:, turns]).mean(1)
    return Population(actions, offset + ratio, reference, DrawError(ratio.mean(1), distance))


def rest_of_previous(previous: Tensor | None, reference: SquashedGaussian) -> Tensor:
    """The candidate (B, 1, H, action_dim) that goes on with an earlier plan (B, steps, action_dim).

    What it does not say, NaN, beyond its end or all of it, is the reference's mode.
    """
    mode = reference.mode()
    if previous is None:
        return mode.unsqueeze(1)
    known = torch.full_like(mode, torch.nan)
    steps = min(known.shape[1], previous.shape[1])
    known[:, :steps] = previous[:, :steps]
    return torch.where(torch.isnan(known), mode, known).unsqueeze(1)


def count_elites(config: PlannerConfig, candidates: int) -> int:
    """How many of so many candidates are kept and fitted by a refinement: one at least, and not all."""
    return max(1, min(candidates - 1, round(config.elite_fraction * candidates)))


def fitted(actions: Tensor, utilities: Tensor, sharpness: float, noise: Tensor, least_std: float) -> Tensor:
    """New candidates (B, K, H, action_dim) from a Gaussian fitted to elites, inside the action box.

    Mean and standard deviation are weighted with eq. 4 among the elites, as MPPI weights them (Williams et al. 2017;
    TD-MPC, Hansen et al. 2022); with sharpness 0 they are CEM's.

    Args:
        actions: (B, M, H, action_dim), the elites.
        utilities: (B, M).
        noise: (B, K, H, action_dim), standard normal.
        least_std: the standard deviation does not fall below it.
    """
    weights = softmax_probabilities(utilities, sharpness).to(actions.dtype)[..., None, None]
    mean = (weights * actions).sum(1, keepdim=True)
    std = (weights * (actions - mean).square()).sum(1, keepdim=True).sqrt().clamp(min=least_std)
    return (mean + std * noise).clamp(-1.0, 1.0)


def _noise_of(actions: Tensor, reference: SquashedGaussian) -> Tensor:
    """Places (B, M, H, action_dim) of actions in the reference's units; at the box's bounds those just inside."""
    bound = 1.0 - reference.action_clip
    pre_tanh = torch.atanh(actions.clamp(-bound, bound))
    return (pre_tanh - reference.mean.unsqueeze(1)) * torch.exp(-reference.log_std.unsqueeze(1))
