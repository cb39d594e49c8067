"""The trajectory model from torch's own transformer layers, and its training step: float32, one mask a batch, AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from m3pc_ray.config import MaskConfig, ModelConfig
from m3pc_ray.model.masks import ACTIONS, MODALITIES, Mask, draw_masks
from m3pc_ray.model.network import TrajectoryModel


def _layer(config: ModelConfig) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        config.width,
        config.heads,
        config.feedforward_multiple * config.width,
        config.dropout,
        "gelu",
        norm_first=True,
        batch_first=True,
    )


def _head(width: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, dim))


class PlainModel(nn.Module):
    """The function of `TrajectoryModel`, for one mask a batch and data without missing tokens."""

    def __init__(self, observation_dim: int, action_dim: int, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, dims = config.width, {"states": observation_dim, "returns": 1, "actions": action_dim, "rewards": 1}
        self.embed = nn.ModuleDict({name: nn.Linear(dims[name], width) for name in MODALITIES})
        self.token_embedding = nn.Parameter(torch.zeros(4, config.segment_length, width))
        self.encoder = nn.ModuleList([_layer(config) for _ in range(config.encoder_layers)])
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder_embed = nn.ModuleDict({name: nn.Linear(width, width) for name in MODALITIES})
        self.mask_tokens = nn.Parameter(torch.randn(4, width) * 0.02)
        self.decoder = nn.ModuleList([_layer(config) for _ in range(config.decoder_layers)])
        self.decoder_norm = nn.LayerNorm(width)
        self.heads = nn.ModuleDict({name: _head(width, dims[name]) for name in ("states", "returns", "rewards")})
        self.action_mean = nn.Linear(width, action_dim)
        self.action_log_std = nn.Linear(width, action_dim)

    def forward(self, tokens: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
        """Predictions (B, T, dim) by modality, `action_mean` and `action_log_std` among them."""
        length = self.config.segment_length
        shown = torch.from_numpy(mask)  # (4, T)
        embedded = torch.stack([self.embed[name](tokens[name]) for name in MODALITIES], dim=1) + self.token_embedding
        x = embedded[:, shown]  # (B, visible, width)
        for layer in self.encoder:
            x = layer(x)
        x = self.encoder_norm(x)
        full = self.mask_tokens[:, None].expand(4, length, -1).expand(len(x), -1, -1, -1).clone()
        full[:, shown] = x
        for index, name in enumerate(MODALITIES):
            at = shown[index]
            full[:, index, at] = self.decoder_embed[name](full[:, index, at])
        y = (full + self.token_embedding).flatten(1, 2)
        for layer in self.decoder:
            y = layer(y)
        by_modality = self.decoder_norm(y).unflatten(1, (4, length))
        outputs = {
            name: self.heads[name](by_modality[:, index]) for index, name in enumerate(MODALITIES) if index != ACTIONS
        }
        actions = by_modality[:, ACTIONS]
        low, high = self.config.log_std_min, self.config.log_std_max
        outputs["action_mean"] = self.action_mean(actions)
        outputs["action_log_std"] = low + 0.5 * (high - low) * (torch.tanh(self.action_log_std(actions)) + 1.0)
        return outputs

    def load_from(self, model: TrajectoryModel) -> None:
        """Takes over the weights of our model, so that both are the same function."""
        source = model.state_dict()
        renamed = {"token_embedding": model.token_embedding().detach()}
        for name, values in source.items():
            for ours, theirs in _NAMES.items():
                name = name.replace(ours, theirs)
            renamed[name] = values
        wanted = self.state_dict().keys()
        self.load_state_dict({name: values for name, values in renamed.items() if name in wanted})


_NAMES = {
    "attention_norm": "norm1",
    "feedforward_norm": "norm2",
    "query_key_value.": "self_attn.in_proj_",
    "attention_output": "self_attn.out_proj",
    "feedforward_in": "linear1",
    "feedforward_out": "linear2",
    "action_head.mean": "action_mean",
    "action_head.log_std": "action_log_std",
    "states.norm": "states.0",
    "states.hidden": "states.1",
    "states.output": "states.3",
    "returns.norm": "returns.0",
    "returns.hidden": "returns.1",
    "returns.output": "returns.3",
    "rewards.norm": "rewards.0",
    "rewards.hidden": "rewards.1",
    "rewards.output": "rewards.3",
}
"""Names in `TrajectoryModel` and here."""


class PlainTrainer:
    """Gradient steps of a `PlainModel`: squared errors, likelihood and entropy of the masked actions, AdamW.

    Args:
        model: trained in place.
        masks: which masks are drawn; one for each batch, whatever its `groups`.
    """

    def __init__(self, model: PlainModel, masks: MaskConfig, entropy_multiplier: float = 0.1, seed: int = 0) -> None:
        self.model, self.masks, self.entropy_multiplier = model, replace(masks, groups=1), entropy_multiplier
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=5e-3)
        self.rng = np.random.default_rng(seed)

    def update(self, tokens: Mapping[str, Tensor], mask: Mask | None = None) -> float:
        """One step on segments (B, T, dim) by modality; `mask` instead of a drawn one."""
        if mask is None:
            (mask,) = draw_masks(self.rng, self.model.config.segment_length, self.masks)
        outputs = self.model(tokens, mask)
        loss = sum((outputs[name] - tokens[name]).square().mean() for name in ("states", "returns", "rewards"))
        shown = torch.from_numpy(mask[ACTIONS])
        if shown.any():
            loss = loss + (torch.tanh(outputs["action_mean"]) - tokens["actions"])[:, shown].square().mean()
        if not shown.all():
            mean, std = outputs["action_mean"][:, ~shown], outputs["action_log_std"][:, ~shown].exp()
            base = Normal(mean, std)
            policy = Independent(TransformedDistribution(base, [TanhTransform(cache_size=1)]), 1)
            bound = 1.0 - self.model.config.action_clip
            likelihood = policy.log_prob(tokens["actions"][:, ~shown].clamp(-bound, bound)).mean()
            entropy = -policy.log_prob(policy.rsample()).mean()
            loss = loss - likelihood - self.entropy_multiplier * entropy
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return float(loss.detach())
