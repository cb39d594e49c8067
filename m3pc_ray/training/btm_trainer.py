"""Gradient steps of the trajectory model: mask groups, the Lagrangian entropy constraint, Muon or AdamW."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from m3pc_ray.config import MaskConfig, PretrainConfig
from m3pc_ray.model.allocation import keep_freed_memory
from m3pc_ray.model.losses import TrainedLosses, group_rows, loss_terms
from m3pc_ray.model.masks import draw_masks
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.training.muon import BatchedMuon


def schedule_factor(schedule: str, warmup_steps: int, step: int, progress: float) -> float:
    """Learning-rate factor in [0, 1]: linear warm-up over `warmup_steps`, then cosine to 0 at `progress` 1."""
    warmup = min(1.0, (step + 1) / max(1, warmup_steps))
    if schedule == "constant":
        return warmup
    return warmup * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def _hidden_matrices(model: TrajectoryModel) -> set[nn.Parameter]:
    """Matrices between hidden layers, Muon's domain; input embeddings and output heads are not among them."""
    modules = [*model.encoder, *model.decoder, model.decoder_embed, *(head.hidden for head in model.heads.values())]
    return {parameter for module in modules for parameter in module.parameters() if parameter.ndim == 2}


def entropy_target(config: PretrainConfig, action_dim: int) -> float:
    """beta, nats per step: as configured, else minus the action dimension."""
    return -float(action_dim) if config.entropy_target is None else config.entropy_target


class BTMTrainer:
    """Optimizers, entropy multiplier and the update of a `TrajectoryModel`.

    theta and sigma are updated in turn (eqs. 5-8): theta descends the loss at fixed sigma, then sigma rises where the
    entropy is under its target and falls where it is above. sigma is kept as its logarithm, hence positive.
    """

    def __init__(
        self,
        model: TrajectoryModel,
        config: PretrainConfig,
        masks: MaskConfig,
        dtype: torch.dtype,
        seed: int,
        trained_losses: TrainedLosses = "all",
    ) -> None:
        self.model, self.config, self.masks, self.dtype = model, config, masks, dtype
        self.trained_losses = trained_losses
        self.mask_rng = np.random.default_rng([seed, 1])
        device = model.modality_embedding.device
        if device.type == "cpu":
            keep_freed_memory()
        self.log_multiplier = torch.tensor(math.log(config.entropy_multiplier_init), device=device, requires_grad=True)
        self.entropy_target = entropy_target(config, model.action_dim)
        self._constrained = config.entropy_constraint and config.action_loss == "nll"
        hidden = _hidden_matrices(model)
        matrices = [p for p in model.parameters() if p in hidden]
        other_matrices = [p for p in model.parameters() if p.ndim == 2 and p not in hidden]
        vectors = [p for p in model.parameters() if p.ndim != 2]
        betas = (config.beta1, config.beta2)
        self._optimizers: dict[str, torch.optim.Optimizer] = {}
        if config.optimizer == "muon":
            self._optimizers["btm_muon"] = BatchedMuon(
                matrices, lr=config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        else:
            other_matrices = matrices + other_matrices
        self._optimizers["btm_adamw"] = torch.optim.AdamW(
            [
                {"params": other_matrices, "weight_decay": config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=betas,
            fused=True,
        )
        self._optimizers["btm_multiplier"] = torch.optim.Adam(
            [self.log_multiplier], lr=config.entropy_multiplier_learning_rate
        )

    @property
    def entropy_multiplier(self) -> float:
        """sigma."""
        return float(self.log_multiplier.detach().exp()) if self._constrained else 0.0

    def optimizers(self) -> dict[str, Any]:
        """Optimizers by the name they have in a checkpoint."""
        return dict(self._optimizers)

    def update(
        self, tokens: Mapping[str, Tensor], valid: Tensor | None, learning_rate_factor: float
    ) -> dict[str, Tensor]:
        """One gradient step of theta and one of sigma.

        Args:
            tokens: per modality (B, T, dim), normalised.
            valid: (B, 4, T) bool or None, see `TrajectoryModel.forward`.
            learning_rate_factor: multiplies the configured learning rate.

        Returns:
            Detached scalars by metric name.
        """
        config, model = self.config, self.model
        drawn = draw_masks(self.mask_rng, model.config.segment_length, self.masks)
        masks = list(zip(group_rows(tokens["states"].shape[0], len(drawn)), drawn, strict=True))
        prediction = model(tokens, masks, valid, self.dtype)
        terms = loss_terms(prediction, tokens, masks, valid, config.nll_over)
        multiplier = self.log_multiplier.detach().exp() if self._constrained else 0.0
        loss = terms.total(multiplier, self.trained_losses, config.action_loss)
        for name in ("btm_muon", "btm_adamw"):
            if name in self._optimizers:
                for group in self._optimizers[name].param_groups:
                    group["lr"] = config.learning_rate * learning_rate_factor
                self._optimizers[name].zero_grad(set_to_none=True)
        loss.backward()
        metrics = {
            "loss": loss.detach(),
            "states_error": terms.states.detach(),
            "returns_error": terms.returns.detach(),
            "rewards_error": terms.rewards.detach(),
            "visible_actions_error": terms.visible_actions.detach(),
        }
        if config.action_loss == "nll":
            metrics["negative_log_likelihood"] = terms.negative_log_likelihood.detach()
            metrics["entropy"] = terms.entropy.detach()
        else:
            metrics["asked_actions_error"] = terms.asked_actions.detach()
        if config.gradient_clip > 0:
            metrics["gradient_norm"] = nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        for name in ("btm_muon", "btm_adamw"):
            if name in self._optimizers:
                self._optimizers[name].step()
        if self._constrained:
            if int(terms.actions_asked):  # masks that show every action say nothing about the entropy
                self._update_multiplier(terms.entropy.detach())
            metrics["entropy_multiplier"] = self.log_multiplier.detach().exp()
        return metrics

    def _update_multiplier(self, entropy: Tensor) -> None:
        optimizer = self._optimizers["btm_multiplier"]
        optimizer.zero_grad(set_to_none=True)
        (self.log_multiplier.exp() * (entropy - self.entropy_target)).backward()
        optimizer.step()
