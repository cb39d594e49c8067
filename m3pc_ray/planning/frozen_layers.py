"""The model's layers with weights frozen in one type, and what the engine needs of them in pieces.

Tokens lead: activations are (tokens, rows, width).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from m3pc_ray.model.network import LayerNorm, RegressionHead, TransformerLayer
from m3pc_ray.planning.frozen_linear import FrozenLinear, frozen


@dataclass(frozen=True)
class FrozenNorm:
    weight: Tensor
    bias: Tensor
    epsilon: float

    @classmethod
    def of(cls, module: LayerNorm, dtype: torch.dtype, device: torch.device) -> FrozenNorm:
        weight, bias = frozen(module.weight, dtype, device), frozen(module.bias, dtype, device)
        return cls(weight, bias, module.eps)

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True)
class Beyond:
    """Any number of tokens that no row changes, seen by queries that no row changes, folded into one key and value.

    softmax over [x, y] is softmax over [x, logsumexp(y)], whose last share goes to the softmax-weighted values of y.
    """

    scores: Tensor  # (heads, Q, 1): logsumexp of the scores
    values: Tensor  # (heads, Q, size): what attention to these tokens alone would return


class FrozenLayer:
    """The weights of a transformer layer, and its parts as functions of (tokens, rows, width)."""

    def __init__(self, module: TransformerLayer, dtype: torch.dtype, device: torch.device) -> None:
        self.heads = module.heads
        self.attention_norm = FrozenNorm.of(module.attention_norm, dtype, device)
        self.attention_output = FrozenLinear.of(module.attention_output, dtype, device)
        self.feedforward_norm = FrozenNorm.of(module.feedforward_norm, dtype, device)
        self.feedforward_in = FrozenLinear.of(module.feedforward_in, dtype, device)
        self.feedforward_out = FrozenLinear.of(module.feedforward_out, dtype, device)
        width = module.attention_output.weight.shape[0]
        weight, bias = module.query_key_value.weight.detach().clone(), module.query_key_value.bias.detach().clone()
        weight[:width] *= (width // self.heads) ** -0.5  # the scale of the scores, paid here instead of for each query
        bias[:width] *= (width // self.heads) ** -0.5
        weight, bias = frozen(weight, dtype, device), frozen(bias, dtype, device)
        self.query = FrozenLinear(weight[:width], bias[:width])
        self.key_value = FrozenLinear(weight[width:], bias[width:])
        self.query_key_value = FrozenLinear(weight, bias)

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values, (S, R, width) -> (S, R, 3 width)."""
        return self.query_key_value(self.attention_norm(x))

    def attend(
        self, queries: Tensor, keys_values: Tensor, beyond: Beyond | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """Attention of queries (Q, R, width) to keys and values (S, R, 2 width), before the output product.

        `beyond`: further tokens, the same for all rows. `bias` (Q, S) is added to the scores.
        """
        num_queries, rows, width = queries.shape
        size = width // self.heads
        by_head = queries.reshape(num_queries, rows * self.heads, size).transpose(0, 1)  # (R heads, Q, size)
        keys, values = self._by_head(keys_values)
        scores = torch.bmm(by_head, keys.transpose(1, 2))  # (R heads, Q, S)
        if bias is not None:
            scores = scores + bias
        if beyond is None:
            attended = torch.bmm(_softmax_of_keys(scores), values)
        else:
            further = beyond.scores.expand(rows, -1, -1, -1).reshape(rows * self.heads, num_queries, 1)
            shares = _softmax_of_keys(torch.cat([scores, further], dim=-1))
            attended = torch.bmm(shares[..., :-1], values).view(rows, self.heads, num_queries, size)
            attended = torch.addcmul(attended, shares[..., -1:].view(rows, self.heads, num_queries, 1), beyond.values)
        return attended.view(rows * self.heads, num_queries, size).transpose(0, 1).reshape(num_queries, rows, width)

    def beyond(self, queries: Tensor, keys_values: Tensor) -> Beyond:
        """What constant queries (Q, width) get from constant keys and values (S, 2 width)."""
        size = queries.shape[-1] // self.heads
        keys, values = self._by_head(keys_values.unsqueeze(1))
        scores = queries.view(-1, self.heads, size).transpose(0, 1).float() @ keys.float().transpose(1, 2)
        answers = torch.softmax(scores, dim=-1) @ values.float()
        return Beyond(scores.logsumexp(-1, keepdim=True).to(queries.dtype), answers.to(queries.dtype))

    def _by_head(self, keys_values: Tensor) -> Tensor:
        """(S, R, 2 width) -> (2, R heads, S, size)."""
        length, rows, double_width = keys_values.shape
        size = double_width // (2 * self.heads)
        apart = keys_values.view(length, rows, 2, self.heads, size).permute(2, 1, 3, 0, 4)
        return apart.reshape(2, rows * self.heads, length, size)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Both residual branches: the attention's output product and the feed-forward block."""
        x = self.attention_output.added_to(x, attended)
        return self.feedforward_out.added_to(x, self.feedforward_in.gelu(self.feedforward_norm(x)))

    def __call__(self, x: Tensor, projected: Tensor | None = None) -> Tensor:
        """The whole layer, (S, R, width) -> (S, R, width)."""
        projected = self.project(x) if projected is None else projected
        width = x.shape[-1]
        return self.finish(x, self.attend(projected[..., :width], projected[..., width:]))


class FrozenHead:
    """The weights of a regression head; the last product in float32, as in the model."""

    def __init__(self, module: RegressionHead, dtype: torch.dtype, device: torch.device) -> None:
        self.norm = FrozenNorm.of(module.norm, dtype, device)
        self.hidden = FrozenLinear.of(module.hidden, dtype, device)
        self.output = FrozenLinear.of(module.output, torch.float32, device)

    def __call__(self, x: Tensor) -> Tensor:
        return self.output(self.hidden.gelu(self.norm(x)).float())


def _softmax_of_keys(scores: Tensor) -> Tensor:
    """Softmax over the last dimension of (rows, queries, keys).

    On a CPU over fewer keys than a vector register holds, torch's kernel is 5 to 10 times slower than over the first
    dimension, copies there and back included.
    """
    if scores.device.type != "cpu" or scores.shape[-1] >= 32:
        return torch.softmax(scores, dim=-1)
    return torch.softmax(scores.permute(2, 0, 1).contiguous(), dim=0).permute(1, 2, 0)
