"""The fast inference of planning: the same function of the same weights as `oracle.py`, at a fraction of the work.

`propose` and `predict` answer forward planning; `states_behind` and `action_behind` any mask, for backward planning.

- The encoder sees visible tokens only; the decoder computes keys and values of all tokens, but queries, feed-forward
  blocks and heads (its last layer) only for the tokens that are asked for.
- What no candidate changes is computed once: queries, keys and values of the context's tokens in the first encoder
  layer once for an environment; those of the mask tokens in the first decoder layer once for a version of the weights,
  and what hidden tokens tell each other there once for a call. With causal encoder attention (a setting of the model)
  all of the encoder's work on the context, and its keys and values in the decoder, too.
- Matrix products in the dtype the device is fast at, with weights converted once; candidates go through in chunks that
  stay in the cache.

Tokens lead: activations are (tokens, rows, width), a row being one candidate of one environment, so that parts of the
window are concatenated and sliced without copying anything else. Attention does not care about the order of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from m3pc_ray.model.allocation import keep_freed_memory
from m3pc_ray.model.distribution import SquashedGaussian
from m3pc_ray.model.masks import ACTIONS, MODALITIES, RETURNS, STATES, Mask
from m3pc_ray.model.network import TrajectoryModel, causal_bias
from m3pc_ray.planning.frozen_layers import Beyond, FrozenHead, FrozenLayer, FrozenNorm
from m3pc_ray.planning.frozen_linear import FrozenLinear, frozen
from m3pc_ray.planning.inference import Queries, Window

CHUNK_BYTES = 2**22
"""Size of a chunk's largest activation, the hidden layer of a feed-forward block, on a CPU (measured: see
`m3pc bench planner`). GPUs take all rows at once, up to `DEVICE_CHUNK_ROWS`."""
DEVICE_CHUNK_ROWS = 32_768

Run = tuple[int, range]
"""Consecutive steps of one modality."""


@dataclass(frozen=True)
class _ConstantQueries:
    """Hidden tokens asked of a single decoder layer: neither what enters it nor their queries depend on the row."""

    inputs: Tensor  # (Q, 1, width)
    queries: Tensor  # (Q, 1, width)
    beyond: Beyond


@dataclass(frozen=True)
class _Question:
    """Order of the decoder's tokens, visible ones as the encoder had them, then hidden ones, and what is wanted."""

    runs: tuple[Run, ...]
    hidden: Tensor  # (32 - S, 1, width), what enters the decoder for the hidden tokens
    places: Tensor  # (Q,), positions of the tokens asked for
    constant: _ConstantQueries | None


@dataclass(frozen=True)
class _Past:
    """What an environment's candidates have in common, as far as it can be computed without them."""

    runs: tuple[Run, ...]
    tokens: Tensor  # (C, B, width), embedded
    projected: Tensor | None  # (C, B, 3 width): what the first encoder layer projects them to; full attention only
    # With causal attention the past does not depend on what comes later:
    keys_values: list[Tensor] = field(default_factory=list)  # (C, B, 2 width) of every encoder layer
    seen: Tensor | None = None  # (C, B, width), what enters the decoder
    decoder_keys_values: Tensor | None = None  # (C, B, 2 width), if there is one decoder layer


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
        self._causal = model.config.encoder_attention == "causal"
        self._predicts_changes = model.config.state_prediction == "change"
        # Tokens enter in float32, as in the model: the bias of the embedding is part of the constant.
        constant = frozen(model.token_embedding(), torch.float32, device)  # (4, T, width)
        self._embed = [frozen(model.embed[name].weight, torch.float32, device) for name in MODALITIES]
        biases = torch.stack([frozen(model.embed[name].bias, torch.float32, device) for name in MODALITIES])
        self._embed_constant = constant + biases.unsqueeze(1)
        self._encoder = [FrozenLayer(layer, dtype, device) for layer in model.encoder]
        self._encoder_norm = FrozenNorm.of(model.encoder_norm, dtype, device)
        self._decoder_embed = [FrozenLinear.of(model.decoder_embed[name], dtype, device) for name in MODALITIES]
        self._decoder_constant = constant.to(dtype)
        self._decoder = [FrozenLayer(layer, dtype, device) for layer in model.decoder]
        self._decoder_norm = FrozenNorm.of(model.decoder_norm, dtype, device)
        self._heads = {name: FrozenHead(head, dtype, device) for name, head in model.heads.items()}
        self._action_mean = FrozenLinear.of(model.action_head.mean, torch.float32, device)
        self._action_log_std = FrozenLinear.of(model.action_head.log_std, torch.float32, device)
        self._log_std_range = (model.action_head.log_std_min, model.action_head.log_std_max)
        # Mask tokens as the decoder sees them, (4 T, width), and what its first layer makes of them, (4 T, 3 width).
        self._blank = (frozen(model.mask_tokens, torch.float32, device).unsqueeze(1) + constant).flatten(0, 1).to(dtype)
        self._blank_projected = self._decoder[0].project(self._blank) if self._decoder else None
        self._biases: dict[tuple[tuple[Run, ...], tuple[Run, ...]], Tensor] = {}
        self._questions: dict[tuple[tuple[Run, ...], tuple[Run, ...]], _Question] = {}

    @torch.inference_mode()
    def propose(self, window: Window, steps: int) -> SquashedGaussian:
        t, all_steps = window.position, range(self._segment_length)
        runs = ((STATES, range(t + 1)), (RETURNS, all_steps), (ACTIONS, range(t)))
        values = [window.states, window.returns, window.actions]
        tokens = torch.cat([self._token(run, part) for run, part in zip(runs, values, strict=True)])
        question = self._question(runs, ((ACTIONS, range(t, t + steps)),))
        encoded = self._encode_causally(tokens, runs)[1] if self._causal else self._encode(tokens)
        return self._distribution(self._decode(self._seen(encoded, runs), question).transpose(0, 1))

    @torch.inference_mode()
    def predict(
        self, window: Window, candidates: Tensor, queries: Queries, imagined: Tensor | None = None
    ) -> dict[str, Tensor]:
        batch, num_candidates = candidates.shape[:2]
        t, last = window.position, self._segment_length
        # Shared by an environment's candidates: states and actions so far. Their own: actions, then imagined states.
        later: tuple[Run, ...] = () if imagined is None or t + 1 == last else ((STATES, range(t + 1, last)),)
        past_runs: tuple[Run, ...] = ((STATES, range(t + 1)), (ACTIONS, range(t)))
        own_runs: tuple[Run, ...] = ((ACTIONS, range(t, last)), *later)
        runs = (past_runs[0], (ACTIONS, range(last)), *later)
        past = self._past(
            torch.cat([self._token(past_runs[0], window.states), self._token(past_runs[1], window.actions)]), past_runs
        )
        question = self._question(runs, tuple((MODALITIES.index(name), steps) for name, steps in queries.items()))
        answers: dict[str, list[Tensor]] = {name: [] for name in queries}
        # A row is one candidate of one environment; a chunk holds whole environments or part of one.
        owner = torch.arange(batch, device=self.device).repeat_interleave(num_candidates)
        flat_candidates = candidates.flatten(0, 1)
        chunk = self._chunk_rows(sum(len(steps) for _, steps in (own_runs if self._causal else runs)))
        for start in range(0, batch * num_candidates, chunk):
            rows = slice(start, min(start + chunk, batch * num_candidates))
            own = self._token((ACTIONS, range(t, last)), flat_candidates[rows])
            if later and imagined is not None:
                own = torch.cat([own, self._token(later[0], imagined.flatten(0, 1)[rows])])
            decoded = self._answer(own, own_runs, past, owner[rows], question)
            first = 0
            for name, steps in queries.items():
                answers[name].append(self._heads[name](decoded[first : first + len(steps)]).transpose(0, 1))
                first += len(steps)
        predicted = {name: torch.cat(parts).unflatten(0, (batch, num_candidates)) for name, parts in answers.items()}
        if "states" in predicted and self._predicts_changes:
            predicted["states"] += self._last_visible_states(window, queries["states"], imagined)
        return predicted

    @torch.inference_mode()
    def states_behind(self, tokens: Mapping[str, Tensor], mask: Mask, steps: Sequence[int]) -> Tensor:
        """States (B, steps, observation_dim), normalised, as the model sees them behind any mask.

        Args:
            tokens: per modality (B, T, dim), normalised; hidden ones are not read.
            mask: (4, T), True where a token is visible; of states up to every one of `steps` at least one.
            steps: of the window.
        """
        decoded = self._behind(tokens, mask, tuple((STATES, range(step, step + 1)) for step in steps))
        states = self._heads["states"](decoded).transpose(0, 1)
        if self._predicts_changes:
            shown = np.flatnonzero(mask[STATES])
            states = states + tokens["states"][:, [int(shown[shown <= step][-1]) for step in steps]]
        return states

    @torch.inference_mode()
    def action_behind(self, tokens: Mapping[str, Tensor], mask: Mask, step: int) -> SquashedGaussian:
        """The distribution of the action at `step`, mean and log_std (B, action_dim); arguments as `states_behind`."""
        return self._distribution(self._behind(tokens, mask, ((ACTIONS, range(step, step + 1)),))[0])

    def _behind(self, tokens: Mapping[str, Tensor], mask: Mask, asked: tuple[Run, ...]) -> Tensor:
        """Decoder output (Q, B, width) of the tokens asked for behind a mask."""
        runs = tuple((modality, steps) for modality in range(len(MODALITIES)) for steps in _stretches(mask[modality]))
        x = torch.cat([self._token(run, tokens[MODALITIES[run[0]]][:, run[1].start : run[1].stop]) for run in runs])
        encoded = self._encode_causally(x, runs)[1] if self._causal else self._encode(x)
        return self._decode(self._seen(encoded, runs), self._question(runs, asked))

    def _distribution(self, decoded: Tensor) -> SquashedGaussian:
        """Of actions, (..., action_dim), from the decoder's output (..., width)."""
        x = decoded.float()
        lowest, highest = self._log_std_range
        log_std = lowest + 0.5 * (highest - lowest) * (torch.tanh(self._action_log_std(x)) + 1.0)
        return SquashedGaussian(self._action_mean(x), log_std, self._action_clip)

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

    def _past(self, tokens: Tensor, runs: tuple[Run, ...]) -> _Past:
        """As much of the way of `tokens` (C, B, width) as no candidate changes."""
        if not self._causal:
            return _Past(runs, tokens, self._encoder[0].project(tokens) if self._encoder else None)
        keys_values, encoded = self._encode_causally(tokens, runs)
        seen = self._seen(encoded, runs)
        decoder_keys_values = None
        if len(self._decoder) == 1:
            layer = self._decoder[0]
            decoder_keys_values = layer.key_value(layer.attention_norm(seen))
        return _Past(runs, tokens, None, keys_values, seen, decoder_keys_values)

    def _answer(
        self, own: Tensor, own_runs: tuple[Run, ...], past: _Past, owner: Tensor, question: _Question
    ) -> Tensor:
        """Decoder output (Q, R, width) of rows with tokens of their own (O, R, width) and their environment's past."""
        if not self._causal:
            x, projected = torch.cat([past.tokens[:, owner], own]), None
            if past.projected is not None:
                projected = torch.cat([past.projected[:, owner], self._encoder[0].project(own)])
            return self._decode(self._seen(self._encode(x, projected), question.runs), question)
        x, bias = own, self._bias(own_runs, past.runs + own_runs)
        for layer, before in zip(self._encoder, past.keys_values, strict=True):
            projected = layer.project(x)
            keys_values = torch.cat([before[:, owner], projected[..., self._width :]])
            x = layer.finish(x, layer.attend(projected[..., : self._width], keys_values, bias=bias))
        seen = self._seen(self._encoder_norm(x), own_runs)
        assert past.seen is not None
        if question.constant is None or past.decoder_keys_values is None:
            return self._decode(torch.cat([past.seen[:, owner], seen]), question)
        layer = self._decoder[0]
        later = layer.key_value(layer.attention_norm(seen))
        return self._decode_constant(torch.cat([past.decoder_keys_values[:, owner], later]), question.constant)

    def _encode(self, x: Tensor, projected: Tensor | None = None) -> Tensor:
        """Encoder output of tokens (S, R, width); `projected`: what the first layer projects them to."""
        for index, layer in enumerate(self._encoder):
            x = layer(x, projected if index == 0 else None)
        return self._encoder_norm(x)

    def _encode_causally(self, x: Tensor, runs: tuple[Run, ...]) -> tuple[list[Tensor], Tensor]:
        """Every layer's keys and values (S, R, 2 width), and the encoder's output (S, R, width)."""
        keys_values, bias = [], self._bias(runs, runs)
        for layer in self._encoder:
            projected = layer.project(x)
            keys_values.append(projected[..., self._width :])
            x = layer.finish(x, layer.attend(projected[..., : self._width], keys_values[-1], bias=bias))
        return keys_values, self._encoder_norm(x)

    def _numbers(self, runs: tuple[Run, ...]) -> list[int]:
        """Tokens of runs as modality * T + step."""
        return [modality * self._segment_length + step for modality, steps in runs for step in steps]

    def _bias(self, queries: tuple[Run, ...], keys: tuple[Run, ...]) -> Tensor:
        if (queries, keys) not in self._biases:
            values = causal_bias(self._numbers(queries), self._numbers(keys), self._segment_length)
            self._biases[queries, keys] = torch.as_tensor(values, dtype=self.dtype, device=self.device)
        return self._biases[queries, keys]

    def _question(self, runs: tuple[Run, ...], asked: tuple[Run, ...]) -> _Question:
        """What is asked of the decoder, with all that no row changes; kept until the weights change."""
        if (runs, asked) in self._questions:
            return self._questions[runs, asked]
        visible = self._numbers(runs)
        hidden = sorted(set(range(4 * self._segment_length)) - set(visible))
        wanted = self._numbers(asked)
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

    def _seen(self, encoded: Tensor, runs: tuple[Run, ...]) -> Tensor:
        """What enters the decoder for visible tokens, (S, R, width), from the encoder's output."""
        seen, first = torch.empty_like(encoded), 0
        for modality, steps in runs:
            part = slice(first, first + len(steps))
            constant = self._decoder_constant[modality, steps.start : steps.stop].unsqueeze(1)
            torch.add(self._decoder_embed[modality](encoded[part]), constant, out=seen[part])
            first += len(steps)
        return seen

    def _decode(self, seen: Tensor, question: _Question) -> Tensor:
        """Decoder output (Q, R, width) at the tokens asked for, from what enters it for visible ones (S, R, width)."""
        if question.constant is not None:
            layer = self._decoder[0]
            return self._decode_constant(layer.key_value(layer.attention_norm(seen)), question.constant)
        x = torch.cat([seen, question.hidden.expand(-1, seen.shape[1], -1)])
        for layer in self._decoder[:-1]:
            x = layer(x)
        if not self._decoder:
            return self._decoder_norm(x[question.places])
        layer, normed = self._decoder[-1], self._decoder[-1].attention_norm(x)
        attended = layer.attend(layer.query(normed[question.places]), layer.key_value(normed))
        return self._decoder_norm(layer.finish(x[question.places], attended))

    def _decode_constant(self, keys_values: Tensor, constant: _ConstantQueries) -> Tensor:
        """The same where all that rows differ in is the keys and values (S, R, 2 width) of visible tokens."""
        layer, queries = self._decoder[0], constant.queries.expand(-1, keys_values.shape[1], -1)
        return self._decoder_norm(layer.finish(constant.inputs, layer.attend(queries, keys_values, constant.beyond)))


def _stretches(visible: NDArray[np.bool_]) -> list[range]:
    """Ranges of consecutive True in (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], visible, [False]]))).tolist()
    return [range(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
