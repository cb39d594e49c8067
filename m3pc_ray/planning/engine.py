"""The fast inference of planning: the same function of the same weights as `oracle.py`, at a fraction of the work.

- The encoder sees visible tokens only; the decoder computes keys and values of all tokens, but queries, feed-forward
  blocks and heads (its last layer) only for the tokens that are asked for.
- What no candidate changes is computed once: queries, keys and values of the context's tokens in the first encoder
  layer once for an environment; those of the mask tokens in the first decoder layer once for a version of the weights,
  and what hidden tokens tell each other there once for a call.
- Matrix products in the dtype the device is fast at, with weights converted once; candidates go through in chunks that
  stay in the cache.

Tokens lead: activations are (tokens, rows, width), a row being one candidate of one environment, so that parts of the
window are concatenated and sliced without copying anything else. Attention does not care about the order of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from m3pc_ray.model.allocation import keep_freed_memory
from m3pc_ray.model.distribution import SquashedGaussian
from m3pc_ray.model.masks import ACTIONS, MODALITIES, RETURNS, STATES
from m3pc_ray.model.network import LayerNorm, Linear, RegressionHead, TrajectoryModel, TransformerLayer
from m3pc_ray.planning.inference import Queries, Window

CHUNK_BYTES = 2**22
"""Size of a chunk's largest activation, the hidden layer of a feed-forward block, on a CPU (measured: see
`m3pc bench planner`). GPUs take all rows at once, up to `DEVICE_CHUNK_ROWS`."""
DEVICE_CHUNK_ROWS = 32_768

Run = tuple[int, range]
"""Consecutive steps of one modality."""


@dataclass(frozen=True)
class _Linear:
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, module: Linear, dtype: torch.dtype, device: torch.device) -> _Linear:
        return cls(_frozen(module.weight, dtype, device), _frozen(module.bias, dtype, device))

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True)
class _Norm:
    weight: Tensor
    bias: Tensor
    epsilon: float

    @classmethod
    def of(cls, module: LayerNorm, dtype: torch.dtype, device: torch.device) -> _Norm:
        weight, bias = _frozen(module.weight, dtype, device), _frozen(module.bias, dtype, device)
        return cls(weight, bias, module.eps)

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True)
class _Beyond:
    """Any number of tokens that no row changes, seen by queries that no row changes, folded into one key and value.

    softmax over [x, y] is softmax over [x, logsumexp(y)], whose last share goes to the softmax-weighted values of y.
    """

    scores: Tensor  # (heads, Q, 1): logsumexp of the scores
    values: Tensor  # (heads, Q, size): what attention to these tokens alone would return


@dataclass(frozen=True)
class _ConstantQueries:
    """Hidden tokens asked of a single decoder layer: neither what enters it nor their queries depend on the row."""

    inputs: Tensor  # (Q, 1, width)
    queries: Tensor  # (Q, 1, width)
    beyond: _Beyond


@dataclass(frozen=True)
class _Question:
    """Order of the decoder's tokens, visible ones as the encoder had them, then hidden ones, and what is wanted."""

    runs: tuple[Run, ...]
    hidden: Tensor  # (32 - S, 1, width), what enters the decoder for the hidden tokens
    places: Tensor  # (Q,), positions of the tokens asked for
    constant: _ConstantQueries | None


class _Layer:
    """The weights of a transformer layer, and its parts as functions of (tokens, rows, width)."""

    def __init__(self, module: TransformerLayer, dtype: torch.dtype, device: torch.device) -> None:
        self.heads = module.heads
        self.attention_norm = _Norm.of(module.attention_norm, dtype, device)
        self.attention_output = _Linear.of(module.attention_output, dtype, device)
        self.feedforward_norm = _Norm.of(module.feedforward_norm, dtype, device)
        self.feedforward_in = _Linear.of(module.feedforward_in, dtype, device)
        self.feedforward_out = _Linear.of(module.feedforward_out, dtype, device)
        width = module.attention_output.weight.shape[0]
        weight, bias = module.query_key_value.weight.detach().clone(), module.query_key_value.bias.detach().clone()
        weight[:width] *= (width // self.heads) ** -0.5  # the scale of the scores, paid here instead of for each query
        bias[:width] *= (width // self.heads) ** -0.5
        weight, bias = _frozen(weight, dtype, device), _frozen(bias, dtype, device)
        self.query = _Linear(weight[:width], bias[:width])
        self.key_value = _Linear(weight[width:], bias[width:])
        self.query_key_value = _Linear(weight, bias)

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values, (S, R, width) -> (S, R, 3 width)."""
        return self.query_key_value(self.attention_norm(x))

    def attend(self, queries: Tensor, keys_values: Tensor, beyond: _Beyond | None = None) -> Tensor:
        """Attention of queries (Q, R, width) to keys and values (S, R, 2 width), before the output product.

        `beyond`: further tokens, the same for all rows.
        """
        num_queries, rows, width = queries.shape
        size = width // self.heads
        by_head = queries.reshape(num_queries, rows * self.heads, size).transpose(0, 1)  # (R heads, Q, size)
        keys, values = self._by_head(keys_values)
        scores = torch.bmm(by_head, keys.transpose(1, 2))  # (R heads, Q, S)
        if beyond is None:
            attended = torch.bmm(_softmax_of_keys(scores), values)
        else:
            further = beyond.scores.expand(rows, -1, -1, -1).reshape(rows * self.heads, num_queries, 1)
            shares = _softmax_of_keys(torch.cat([scores, further], dim=-1))
            attended = torch.bmm(shares[..., :-1], values).view(rows, self.heads, num_queries, size)
            attended = torch.addcmul(attended, shares[..., -1:].view(rows, self.heads, num_queries, 1), beyond.values)
        return attended.view(rows * self.heads, num_queries, size).transpose(0, 1).reshape(num_queries, rows, width)

    def beyond(self, queries: Tensor, keys_values: Tensor) -> _Beyond:
        """What constant queries (Q, width) get from constant keys and values (S, 2 width)."""
        size = queries.shape[-1] // self.heads
        keys, values = self._by_head(keys_values.unsqueeze(1))
        scores = queries.view(-1, self.heads, size).transpose(0, 1).float() @ keys.float().transpose(1, 2)
        answers = torch.softmax(scores, dim=-1) @ values.float()
        return _Beyond(scores.logsumexp(-1, keepdim=True).to(queries.dtype), answers.to(queries.dtype))

    def _by_head(self, keys_values: Tensor) -> Tensor:
        """(S, R, 2 width) -> (2, R heads, S, size)."""
        length, rows, double_width = keys_values.shape
        size = double_width // (2 * self.heads)
        apart = keys_values.view(length, rows, 2, self.heads, size).permute(2, 1, 3, 0, 4)
        return apart.reshape(2, rows * self.heads, length, size)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Both residual branches: the attention's output product and the feed-forward block."""
        x = x + self.attention_output(attended)
        return x + self.feedforward_out(functional.gelu(self.feedforward_in(self.feedforward_norm(x))))

    def __call__(self, x: Tensor, projected: Tensor | None = None) -> Tensor:
        """The whole layer, (S, R, width) -> (S, R, width)."""
        projected = self.project(x) if projected is None else projected
        width = x.shape[-1]
        return self.finish(x, self.attend(projected[..., :width], projected[..., width:]))


class _Head:
    """The weights of a regression head; the last product in float32, as in the model."""

    def __init__(self, module: RegressionHead, dtype: torch.dtype, device: torch.device) -> None:
        self.norm = _Norm.of(module.norm, dtype, device)
        self.hidden = _Linear.of(module.hidden, dtype, device)
        self.output = _Linear.of(module.output, torch.float32, device)

    def __call__(self, x: Tensor) -> Tensor:
        return self.output(functional.gelu(self.hidden(self.norm(x))).float())


def _frozen(values: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A copy that later changes of the weights do not reach."""
    return values.detach().to(device=device, dtype=dtype, copy=True)


def _softmax_of_keys(scores: Tensor) -> Tensor:
    """Softmax over the last dimension of (rows, queries, keys).

    On a CPU over fewer keys than a vector register holds, torch's kernel is 5 to 10 times slower than over the first
    dimension, copies there and back included.
    """
    if scores.device.type != "cpu" or scores.shape[-1] >= 32:
        return torch.softmax(scores, dim=-1)
    return torch.softmax(scores.permute(2, 0, 1).contiguous(), dim=0).permute(1, 2, 0)


class FastInference:
    """`Inference` on a snapshot of a model's weights.

    Args:
        model: the weights; later changes count from the next `refresh()` on.
        dtype: of activations and matrix products.
        device: where to compute.
    """

    def __init__(
        self, model: TrajectoryModel, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        self._source = model
        self.dtype, self.device = dtype, torch.device(device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        dtype, device = self.dtype, self.device
        model: Any = self._source  # a ModuleList does not know the type of its members
        self._segment_length, self._width = model.config.segment_length, model.config.width
        self._action_clip = model.config.action_clip
        self._predicts_changes = model.config.state_prediction == "change"
        # Tokens enter in float32, as in the model: the bias of the embedding is part of the constant.
        constant = _frozen(model.token_embedding(), torch.float32, device)  # (4, T, width)
        self._embed = [_frozen(model.embed[name].weight, torch.float32, device) for name in MODALITIES]
        biases = torch.stack([_frozen(model.embed[name].bias, torch.float32, device) for name in MODALITIES])
        self._embed_constant = constant + biases.unsqueeze(1)
        self._encoder = [_Layer(layer, dtype, device) for layer in model.encoder]
        self._encoder_norm = _Norm.of(model.encoder_norm, dtype, device)
        self._decoder_embed = [_Linear.of(model.decoder_embed[name], dtype, device) for name in MODALITIES]
        self._decoder_constant = constant.to(dtype)
        self._decoder = [_Layer(layer, dtype, device) for layer in model.decoder]
        self._decoder_norm = _Norm.of(model.decoder_norm, dtype, device)
        self._heads = {name: _Head(head, dtype, device) for name, head in model.heads.items()}
        self._action_mean = _Linear.of(model.action_head.mean, torch.float32, device)
        self._action_log_std = _Linear.of(model.action_head.log_std, torch.float32, device)
        self._log_std_range = (model.action_head.log_std_min, model.action_head.log_std_max)
        # Mask tokens as the decoder sees them, (4 T, width), and what its first layer makes of them, (4 T, 3 width).
        self._blank = (
            (_frozen(model.mask_tokens, torch.float32, device).unsqueeze(1) + constant).flatten(0, 1).to(dtype)
        )
        self._blank_projected = self._decoder[0].project(self._blank) if self._decoder else None
        self._questions: dict[tuple[tuple[Run, ...], tuple[Run, ...]], _Question] = {}

    @torch.inference_mode()
    def propose(self, window: Window, steps: int) -> SquashedGaussian:
        t, all_steps = window.position, range(self._segment_length)
        runs = ((STATES, range(t + 1)), (RETURNS, all_steps), (ACTIONS, range(t)))
        values = [window.states, window.returns, window.actions]
        tokens = torch.cat([self._token(run, part) for run, part in zip(runs, values, strict=True)])
        question = self._question(runs, ((ACTIONS, range(t, t + steps)),))
        x = self._decode(self._encode(tokens, None), question).float().transpose(0, 1)  # (B, steps, width)
        lowest, highest = self._log_std_range
        log_std = lowest + 0.5 * (highest - lowest) * (torch.tanh(self._action_log_std(x)) + 1.0)
        return SquashedGaussian(self._action_mean(x), log_std, self._action_clip)

    @torch.inference_mode()
    def predict(
        self, window: Window, candidates: Tensor, queries: Queries, imagined: Tensor | None = None
    ) -> dict[str, Tensor]:
        batch, num_candidates = candidates.shape[:2]
        t, last = window.position, self._segment_length
        # Shared by an environment's candidates: states and actions so far. Their own: actions, then imagined states.
        later: tuple[Run, ...] = () if imagined is None or t + 1 == last else ((STATES, range(t + 1, last)),)
        runs = ((STATES, range(t + 1)), (ACTIONS, range(last)), *later)
        shared = torch.cat(
            [self._token((STATES, range(t + 1)), window.states), self._token((ACTIONS, range(t)), window.actions)]
        )
        shared_projected = self._encoder[0].project(shared) if self._encoder else None
        question = self._question(runs, tuple((MODALITIES.index(name), steps) for name, steps in queries.items()))
        answers: dict[str, list[Tensor]] = {name: [] for name in queries}
        # A row is one candidate of one environment; a chunk holds whole environments or part of one.
        owner = torch.arange(batch, device=self.device).repeat_interleave(num_candidates)
        flat_candidates = candidates.flatten(0, 1)
        chunk = self._chunk_rows(sum(len(steps) for _, steps in runs))
        for start in range(0, batch * num_candidates, chunk):
            rows = slice(start, min(start + chunk, batch * num_candidates))
            own = self._token((ACTIONS, range(t, last)), flat_candidates[rows])
            if later and imagined is not None:
                own = torch.cat([own, self._token(later[0], imagined.flatten(0, 1)[rows])])
            encoded = self._encode(own, (shared, shared_projected, owner[rows]))
            decoded = self._decode(encoded, question)
            first = 0
            for name, steps in queries.items():
                answers[name].append(self._heads[name](decoded[first : first + len(steps)]).transpose(0, 1))
                first += len(steps)
        predicted = {name: torch.cat(parts).unflatten(0, (batch, num_candidates)) for name, parts in answers.items()}
        if "states" in predicted and self._predicts_changes:
            predicted["states"] += self._last_visible_states(window, queries["states"], imagined)
        return predicted

    def _last_visible_states(self, window: Window, steps: range, imagined: Tensor | None) -> Tensor:
        """What predicted changes are added to, (B, N or 1, steps, observation_dim)."""
        known = window.states.unsqueeze(1)
        if imagined is not None:
            known = torch.cat([known.expand(-1, imagined.shape[1], -1, -1), imagined], dim=2)
        return known[:, :, [min(step, known.shape[2] - 1) for step in steps]]

    def _chunk_rows(self, num_visible: int) -> int:
        if self.device.type != "cpu":
            return DEVICE_CHUNK_ROWS
        hidden = self._decoder[0].feedforward_in.weight.shape[0] if self._decoder else self._width
        return max(16, CHUNK_BYTES // (num_visible * hidden * self._blank.element_size()))

    def _token(self, run: Run, values: Tensor) -> Tensor:
        """Embedded tokens of consecutive steps of a modality: (R, steps, dim) -> (steps, R, width)."""
        modality, steps = run
        constant = self._embed_constant[modality, steps.start : steps.stop].unsqueeze(1)
        embedded = functional.linear(values.transpose(0, 1).contiguous(), self._embed[modality])
        return (embedded + constant).to(self.dtype)

    def _encode(self, own: Tensor, shared: tuple[Tensor, Tensor | None, Tensor] | None) -> Tensor:
        """Encoder output of rows, each with tokens of its own (O, R, width).

        `shared`: tokens (C, B, width) that rows have in common, what the first layer projects them to, and the
        environment (R,) each row belongs to; they come first in the result (C + O, R, width).
        """
        x, projected = own, None
        if shared is not None:
            tokens, tokens_projected, owner = shared
            x = torch.cat([tokens[:, owner], own])
            if tokens_projected is not None:
                projected = torch.cat([tokens_projected[:, owner], self._encoder[0].project(own)])
        for index, layer in enumerate(self._encoder):
            x = layer(x, projected if index == 0 else None)
        return self._encoder_norm(x)

    def _question(self, runs: tuple[Run, ...], asked: tuple[Run, ...]) -> _Question:
        """What is asked of the decoder, with all that no row changes; kept until the weights change."""
        if (runs, asked) in self._questions:
            return self._questions[runs, asked]
        visible = [modality * self._segment_length + step for modality, steps in runs for step in steps]
        hidden = sorted(set(range(4 * self._segment_length)) - set(visible))
        wanted = [modality * self._segment_length + step for modality, steps in asked for step in steps]
        place = {token: position for position, token in enumerate(visible + hidden)}
        places = torch.tensor([place[token] for token in wanted], device=self.device)
        constant = None
        if len(self._decoder) == 1 and set(wanted).isdisjoint(visible):
            assert self._blank_projected is not None
            queries = self._blank_projected[wanted, : self._width]
            beyond = self._decoder[0].beyond(queries, self._blank_projected[hidden, self._width :])
            constant = _ConstantQueries(self._blank[wanted].unsqueeze(1), queries.unsqueeze(1), beyond)
        question = _Question(runs, self._blank[hidden].unsqueeze(1), places, constant)
        self._questions[runs, asked] = question
        return question

    def _decode(self, encoded: Tensor, question: _Question) -> Tensor:
        """Decoder output (Q, R, width) at the tokens asked for, from the encoder's output (S, R, width)."""
        rows, first = encoded.shape[1], 0
        seen = torch.empty_like(encoded)
        for modality, steps in question.runs:
            part = slice(first, first + len(steps))
            constant = self._decoder_constant[modality, steps.start : steps.stop].unsqueeze(1)
            torch.add(self._decoder_embed[modality](encoded[part]), constant, out=seen[part])
            first += len(steps)
        if question.constant is not None:
            layer = self._decoder[0]
            queries = question.constant.queries.expand(-1, rows, -1)
            attended = layer.attend(queries, layer.key_value(layer.attention_norm(seen)), question.constant.beyond)
            return self._decoder_norm(layer.finish(question.constant.inputs, attended))
        x = torch.cat([seen, question.hidden.expand(-1, rows, -1)])
        for layer in self._decoder[:-1]:
            x = layer(x)
        if not self._decoder:
            return self._decoder_norm(x[question.places])
        layer, normed = self._decoder[-1], self._decoder[-1].attention_norm(x)
        attended = layer.attend(layer.query(normed[question.places]), layer.key_value(normed))
        return self._decoder_norm(layer.finish(x[question.places], attended))
