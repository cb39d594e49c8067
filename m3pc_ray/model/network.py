"""The bidirectional trajectory model (BTM): a masked transformer over states, returns-to-go, actions and rewards.

    tokens -> linear per modality + modality embedding + step embedding
           -> encoder over the visible tokens only
           -> linear per modality, a learned mask token where nothing was visible, embeddings again
           -> decoder over all 4 T tokens -> one head per modality

A batch may consist of several groups of segments with one mask each. Inside a group the decoder's tokens stand in the
order visible, hidden (each sorted by modality): attention does not care, and nothing has to be scattered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from m3pc_ray.config import ModelConfig
from m3pc_ray.model.distribution import SquashedGaussian
from m3pc_ray.model.masks import ACTIONS, MODALITIES, STATES, Mask
from m3pc_ray.trajectories.statistics import Statistics

HIDDEN_BIAS = -1e4
"""Added to attention scores of tokens that must not be attended to; finite, so that a row of nothing else is no NaN."""


def sine_cosine_embedding(positions: int, width: int) -> Tensor:
    """Fixed embedding of the step in the window, (positions, width) (Vaswani et al. 2017)."""
    step = torch.arange(positions, dtype=torch.float32).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10_000.0) / width))
    embedding = torch.zeros(positions, width)
    embedding[:, 0::2] = torch.sin(step * frequency)
    embedding[:, 1::2] = torch.cos(step * frequency)
    return embedding


_PLACE_IN_STEP = (0, 0, 1, 2)
"""Order of states, returns, actions and rewards within a step: an action may depend on its step's state."""


def causal_bias(queries: Sequence[int], keys: Sequence[int], segment_length: int) -> np.ndarray:
    """(Q, S) added to the scores of tokens numbered modality * T + step: 0 where a query may look, else HIDDEN_BIAS.

    A token looks at those of earlier steps and, within its own, at states and returns, then actions, then rewards, up
    to its own kind.
    """
    when_asking, when_said = (
        3 * (numbers % segment_length) + np.take(_PLACE_IN_STEP, numbers // segment_length)
        for numbers in (np.asarray(queries, dtype=int), np.asarray(keys, dtype=int))
    )
    return np.where(when_said[None, :] <= when_asking[:, None], 0.0, HIDDEN_BIAS).astype(np.float32)


class Linear(nn.Linear):
    """nn.Linear whose float32 weights are cast to the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return functional.linear(x, self.weight.to(x.dtype), bias)


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm whose float32 weights are cast to the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return functional.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class TransformerLayer(nn.Module):
    """Pre-norm self-attention and feed-forward block.

    Attention is two batched products: over 32 tokens, forward and backward, the fused CPU kernel takes 6.6 times as
    long in bfloat16 and as long in float32 (benchmarks/attention.py, docs/results.md).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.attention_norm = LayerNorm(width)
        self.query_key_value = Linear(width, 3 * width)
        self.attention_output = Linear(width, width)
        self.feedforward_norm = LayerNorm(width)
        self.feedforward_in = Linear(width, config.feedforward_multiple * width)
        self.feedforward_out = Linear(config.feedforward_multiple * width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, key_bias: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """(B, S, width) -> (B, S, width); `key_bias` (B, S) is added to every query's scores, `bias` (S, S) to all."""
        batch, length, width = x.shape
        projected = self.query_key_value(self.attention_norm(x))
        # (3, B * heads, S, width / heads)
        projected = projected.view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        queries, keys, values = projected.reshape(3, batch * self.heads, length, width // self.heads).unbind(0)
        scores = torch.bmm(queries * (width // self.heads) ** -0.5, keys.transpose(1, 2))
        if key_bias is not None:
            scores = scores + key_bias.to(scores.dtype).repeat_interleave(self.heads, dim=0).unsqueeze(1)
        if bias is not None:
            scores = scores + bias.to(scores.dtype)
        attended = torch.bmm(torch.softmax(scores, dim=-1), values)
        attended = attended.view(batch, self.heads, length, -1).transpose(1, 2).reshape(batch, length, width)
        x = x + self.dropout(self.attention_output(attended))
        hidden = functional.gelu(self.feedforward_in(self.feedforward_norm(x)))
        return x + self.dropout(self.feedforward_out(hidden))


class RegressionHead(nn.Module):
    """LayerNorm, linear, GELU, linear; the last product in float32."""

    def __init__(self, width: int, output_dim: int) -> None:
        super().__init__()
        self.norm = LayerNorm(width)
        self.hidden = Linear(width, width)
        self.output = Linear(width, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(functional.gelu(self.hidden(self.norm(x))).float())


class ActionHead(nn.Module):
    """Two linears for the mean and the tanh-bounded log standard deviation of the action distribution, in float32."""

    def __init__(self, width: int, action_dim: int, log_std_min: float, log_std_max: float) -> None:
        super().__init__()
        self.mean = Linear(width, action_dim)
        self.log_std = Linear(width, action_dim)
        self.log_std_min, self.log_std_max = log_std_min, log_std_max

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.float()
        half_range = 0.5 * (self.log_std_max - self.log_std_min)
        return self.mean(x), self.log_std_min + half_range * (torch.tanh(self.log_std(x)) + 1.0)


@dataclass(frozen=True)
class Prediction:
    """What the decoder says of every token, in normalised units (actions raw), float32."""

    states: Tensor  # (B, T, observation_dim)
    returns: Tensor  # (B, T, 1)
    rewards: Tensor  # (B, T, 1)
    action_mean: Tensor  # (B, T, action_dim), before the tanh
    action_log_std: Tensor  # (B, T, action_dim)
    action_clip: float

    @property
    def actions(self) -> SquashedGaussian:
        return SquashedGaussian(self.action_mean, self.action_log_std, self.action_clip)


class TrajectoryModel(nn.Module):
    """The BTM.

    Args:
        observation_dim: length of a state.
        action_dim: length of an action.
        config: sizes.
        statistics: means and standard deviations of the data; kept as buffers, so they travel with the weights.
    """

    def __init__(self, observation_dim: int, action_dim: int, config: ModelConfig, statistics: Statistics) -> None:
        super().__init__()
        self.observation_dim, self.action_dim, self.config = observation_dim, action_dim, config
        width = config.width
        dims = {"states": observation_dim, "returns": 1, "actions": action_dim, "rewards": 1}
        self.embed = nn.ModuleDict({name: nn.Linear(dims[name], width) for name in MODALITIES})
        self.modality_embedding = nn.Parameter(torch.zeros(4, width))
        self.step_embedding: Tensor
        self.register_buffer("step_embedding", sine_cosine_embedding(config.segment_length, width), persistent=False)
        self.encoder = nn.ModuleList([TransformerLayer(config) for _ in range(config.encoder_layers)])
        self.encoder_norm = LayerNorm(width)
        self.decoder_embed = nn.ModuleDict({name: Linear(width, width) for name in MODALITIES})
        self.mask_tokens = nn.Parameter(torch.randn(4, width) * 0.02)
        self.decoder = nn.ModuleList([TransformerLayer(config) for _ in range(config.decoder_layers)])
        self.decoder_norm = LayerNorm(width)
        self.heads = nn.ModuleDict(
            {name: RegressionHead(width, dims[name]) for name in ("states", "returns", "rewards")}
        )
        self.action_head = ActionHead(width, action_dim, config.log_std_min, config.log_std_max)
        for name in ("states", "returns", "rewards"):
            mean, std = getattr(statistics, f"{name}_mean"), getattr(statistics, f"{name}_std")
            self.register_buffer(f"{name}_mean", torch.as_tensor(np.asarray(mean), dtype=torch.float32))
            self.register_buffer(f"{name}_std", torch.as_tensor(np.asarray(std), dtype=torch.float32))

    def normalise(self, modality: str, values: Tensor) -> Tensor:
        """Standardises states, returns or rewards (..., dim); actions pass unchanged."""
        if modality == "actions":
            return values
        return (values - getattr(self, f"{modality}_mean")) / getattr(self, f"{modality}_std")

    def denormalise(self, modality: str, values: Tensor) -> Tensor:
        """Inverse of `normalise`."""
        if modality == "actions":
            return values
        return values * getattr(self, f"{modality}_std") + getattr(self, f"{modality}_mean")

    def token_embedding(self) -> Tensor:
        """Modality plus step embedding of every token, (4, T, width)."""
        return self.modality_embedding.unsqueeze(1) + self.step_embedding

    def forward(
        self,
        tokens: Mapping[str, Tensor],
        masks: Mask | Sequence[tuple[int, Mask]],
        valid: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Prediction:
        """Predicts every token from the visible ones.

        Args:
            tokens: per modality (B, T, dim), normalised. Values of hidden tokens are never read.
            masks: one (4, T) mask, or (rows, mask) for each group of consecutive rows of the batch.
            valid: (B, 4, T) bool, False where a token does not exist (padding, a missing modality): it is treated as
                hidden for that segment whatever the mask says. None: all exist.
            dtype: type of the transformer's activations and matrix products.

        Raises:
            ValueError: the groups' rows do not add up to the batch, or a mask shows no token.
        """
        batch = tokens["states"].shape[0]
        groups = [(batch, masks)] if isinstance(masks, np.ndarray) else list(masks)
        if sum(rows for rows, _ in groups) != batch:
            raise ValueError(f"mask groups cover {sum(rows for rows, _ in groups)} of {batch} segments")
        embedding = self.token_embedding()
        decoder_inputs, start = [], 0
        for rows, mask in groups:
            part = slice(start, start + rows)
            group_tokens = {name: values[part] for name, values in tokens.items()}
            group_valid = None if valid is None else valid[part]
            decoder_inputs.append(self._encode_group(group_tokens, mask, group_valid, embedding, dtype))
            start += rows
        x = torch.cat(decoder_inputs) if len(decoder_inputs) > 1 else decoder_inputs[0]
        for layer in self.decoder:
            x = layer(x)
        prediction = self._heads(self.decoder_norm(x), groups)
        if self.config.state_prediction == "absolute":
            return prediction
        base = last_visible_states(tokens["states"], groups, None if valid is None else valid[:, STATES])
        return replace(prediction, states=prediction.states + base)

    def _encode_group(
        self,
        tokens: Mapping[str, Tensor],
        mask: Mask,
        valid: Tensor | None,
        embedding: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        """Encoder over a group's visible tokens, then the decoder's input (rows, 4 T, width): visible, then hidden."""
        if not mask.any():
            raise ValueError("a mask must show at least one token")
        visible, hidden = np.flatnonzero(mask), np.flatnonzero(~mask)
        device = embedding.device
        parts = []
        for index, name in enumerate(MODALITIES):
            steps = np.flatnonzero(mask[index])
            if len(steps):
                at = torch.as_tensor(steps, device=device)
                parts.append((self.embed[name](tokens[name][:, at]) + embedding[index, at]).to(dtype))
        x = torch.cat(parts, dim=1)
        exists = None if valid is None else valid.flatten(1)[:, torch.as_tensor(visible, device=device)]
        key_bias = None if exists is None else torch.where(exists, 0.0, HIDDEN_BIAS)
        bias = None
        if self.config.encoder_attention == "causal":
            bias = torch.as_tensor(causal_bias(visible.tolist(), visible.tolist(), mask.shape[1]), device=device)
        for layer in self.encoder:
            x = layer(x, key_bias, bias)
        x = self.encoder_norm(x)
        blank = (self.mask_tokens.unsqueeze(1) + embedding).flatten(0, 1)  # (4 T, width)
        decoded, start = [], 0
        for index, name in enumerate(MODALITIES):
            steps = np.flatnonzero(mask[index])
            if len(steps):
                at = torch.as_tensor(steps, device=device)
                projected = self.decoder_embed[name](x[:, start : start + len(steps)])
                decoded.append(projected + embedding[index, at].to(dtype))
                start += len(steps)
        seen = torch.cat(decoded, dim=1)
        if exists is not None:
            seen = torch.where(exists.unsqueeze(-1), seen, blank[torch.as_tensor(visible, device=device)].to(dtype))
        unseen = blank[torch.as_tensor(hidden, device=device)].to(dtype).expand(x.shape[0], -1, -1)
        return torch.cat([seen, unseen], dim=1)

    def _heads(self, x: Tensor, groups: Sequence[tuple[int, Mask]]) -> Prediction:
        """Head outputs in step order from decoder outputs (B, 4 T, width) in each group's own token order."""
        outputs: dict[str, Tensor] = {}
        for index, name in enumerate(MODALITIES):
            # A modality's visible tokens lie together and so do its hidden ones: slices, whose backward is cheap.
            pieces, start = [], 0
            for rows, mask in groups:
                part = x[start : start + rows]
                seen, first_seen = int(mask[index].sum()), int(mask[:index].sum())
                hidden, first_hidden = int((~mask[index]).sum()), int(mask.sum()) + int((~mask[:index]).sum())
                pieces += [part[:, first_seen : first_seen + seen], part[:, first_hidden : first_hidden + hidden]]
                start += rows
            tokens = torch.cat([piece.reshape(-1, x.shape[-1]) for piece in pieces])
            if index == ACTIONS:
                mean, log_std = self.action_head(tokens)
                outputs["mean"] = _in_step_order(mean, groups, index)
                outputs["log_std"] = _in_step_order(log_std, groups, index)
            else:
                outputs[name] = _in_step_order(self.heads[name](tokens), groups, index)
        return Prediction(
            states=outputs["states"],
            returns=outputs["returns"],
            rewards=outputs["rewards"],
            action_mean=outputs["mean"],
            action_log_std=outputs["log_std"],
            action_clip=self.config.action_clip,
        )


def last_visible_states(states: Tensor, groups: Sequence[tuple[int, Mask]], exists: Tensor | None) -> Tensor:
    """What predicted changes are added to: for every step the last visible state up to it.

    Before the first visible state that one; zeros where a segment shows none.

    Args:
        states: (B, T, observation_dim), normalised; hidden ones are not read.
        groups: (rows, mask) for each group of consecutive rows.
        exists: (B, T) bool, False where a token is hidden whatever the mask says; None: all exist.
    """
    length, device = states.shape[1], states.device
    shown = torch.cat([torch.as_tensor(mask[STATES], device=device).expand(rows, -1) for rows, mask in groups])
    if exists is not None:
        shown = shown & exists
    steps = torch.arange(length, device=device)
    latest = torch.where(shown, steps, -1).cummax(1).values
    earliest = torch.where(shown, steps, length).amin(1, keepdim=True)
    chosen = torch.where(latest >= 0, latest, earliest)  # (B, T); T where no state is shown
    base = states.gather(1, chosen.clamp(max=length - 1).unsqueeze(-1).expand(-1, -1, states.shape[2]))
    return torch.where((chosen < length).unsqueeze(-1), base, 0.0)


def _in_step_order(flat: Tensor, groups: Sequence[tuple[int, Mask]], index: int) -> Tensor:
    """(B, T, dim) in step order from a head's outputs (B * T, dim): by group, visible tokens, then hidden ones."""
    parts, start = [], 0
    for rows, mask in groups:
        seen, length = int(mask[index].sum()), mask.shape[1]
        middle, end = start + rows * seen, start + rows * length
        visible = flat[start:middle].view(rows, seen, flat.shape[-1])
        hidden = flat[middle:end].view(rows, length - seen, flat.shape[-1])
        order = np.argsort(np.concatenate([np.flatnonzero(mask[index]), np.flatnonzero(~mask[index])]))
        parts.append(torch.cat([visible, hidden], dim=1)[:, torch.as_tensor(order, device=flat.device)])
        start = end
    return torch.cat(parts)
