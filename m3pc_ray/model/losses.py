"""Training losses of the trajectory model (section "Training loss" of M³PC; eqs. 1, 2, 5-8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from m3pc_ray.config import ActionLoss
from m3pc_ray.model.masks import ACTIONS, MODALITIES, Mask
from m3pc_ray.model.network import Prediction

TrainedLosses = Literal["all", "states_and_masked_actions"]


@dataclass(frozen=True)
class LossTerms:
    """The parts of the loss, scalars; averaged over real tokens and dimensions."""

    states: Tensor
    returns: Tensor
    rewards: Tensor
    visible_actions: Tensor
    """Squared error of tanh(mean) on visible actions."""
    asked_actions: Tensor
    """The same over the tokens that the likelihood is over."""
    negative_log_likelihood: Tensor
    """Per step, nats, summed over action dimensions."""
    entropy: Tensor
    """Per step, nats, summed over action dimensions; over the same tokens as the likelihood."""
    actions_asked: Tensor
    """Number of action tokens that the likelihood and the entropy are averaged over; 0: both are 0 and mean nothing."""

    def squared_errors(self) -> Tensor:
        return self.states + self.returns + self.rewards + self.visible_actions

    def total(
        self, entropy_multiplier: Tensor | float, trained: TrainedLosses = "all", action_loss: ActionLoss = "nll"
    ) -> Tensor:
        """Squared errors + negative log-likelihood - sigma * entropy.

        With `states_and_masked_actions`, states alone among the squared errors: what the authors' finetuning trains.
        With `squared_error`, the asked actions' instead of the last two terms: a deterministic model.
        """
        squared_errors = self.squared_errors() if trained == "all" else self.states
        if action_loss == "squared_error":
            return squared_errors + self.asked_actions
        return squared_errors + self.negative_log_likelihood - entropy_multiplier * self.entropy


def visibility(masks: Sequence[tuple[int, Mask]], device: torch.device) -> Tensor:
    """(B, 4, T) bool: which tokens of each segment its group's mask shows."""
    rows = [torch.as_tensor(mask, device=device).expand(count, -1, -1) for count, mask in masks]
    return torch.cat(rows)


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean of values (B, T) under weights (B, T) bool; 0 where nothing is selected."""
    weights = weights.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=1.0)


def loss_terms(
    prediction: Prediction,
    tokens: Mapping[str, Tensor],
    masks: Sequence[tuple[int, Mask]],
    valid: Tensor | None = None,
    nll_over: Literal["masked", "all"] = "masked",
) -> LossTerms:
    """Loss terms of one batch.

    Args:
        prediction: the model's output for the batch.
        tokens: per modality (B, T, dim), normalised.
        masks: (rows, mask) for each mask group.
        valid: (B, 4, T) bool, False where a token does not exist and must not be learnt from; None: all exist.
        nll_over: action tokens that the likelihood and the entropy are averaged over.
    """
    visible = visibility(masks, tokens["states"].device)
    exists = torch.ones_like(visible) if valid is None else valid
    errors = {}
    for index, name in enumerate(MODALITIES):
        if index != ACTIONS:
            squared = (getattr(prediction, name) - tokens[name]).square().mean(-1)
            errors[name] = _weighted_mean(squared, exists[:, index])
    action_exists, action_visible = exists[:, ACTIONS], visible[:, ACTIONS]
    # A visible action whose token does not exist was hidden from the model, but there is nothing to compare it with.
    mode_error = (prediction.actions.mode() - tokens["actions"]).square().mean(-1)
    asked = action_exists if nll_over == "all" else action_exists & ~action_visible
    return LossTerms(
        states=errors["states"],
        returns=errors["returns"],
        rewards=errors["rewards"],
        visible_actions=_weighted_mean(mode_error, action_exists & action_visible),
        asked_actions=_weighted_mean(mode_error, asked),
        negative_log_likelihood=_weighted_mean(-prediction.actions.log_prob(tokens["actions"]), asked),
        entropy=_weighted_mean(prediction.actions.entropy(), asked),
        actions_asked=asked.sum(),
    )


def group_rows(batch_size: int, groups: int) -> list[int]:
    """Rows of each of `groups` mask groups, as equal as can be."""
    edges = np.linspace(0, batch_size, groups + 1).round().astype(int)
    return [int(rows) for rows in np.diff(edges)]
