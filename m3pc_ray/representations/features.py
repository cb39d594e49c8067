"""What TD3's networks read: raw observations, or the outputs of a trajectory model's encoder for one step's tokens."""

from __future__ import annotations

import copy
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from m3pc_ray.model.masks import ACTIONS, STATES
from m3pc_ray.model.network import TrajectoryModel, causal_bias

Variant = Literal["raw", "state_frozen", "state_action_frozen", "random_frozen", "finetuned"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
WINDOW_STEP = 0
"""Step of the window at which the tokens stand: the behaviour-cloning mask shows just the state there at t = 0, so a
state token that is alone is what the encoder was trained on."""
ENCODED_ROWS = 4096
"""Transitions a pass while features are computed beforehand."""


class TokenEncoder(nn.Module):
    """The encoder of a trajectory model for the state token of one step, alone or beside the action token.

    Args:
        model: copied, so that finetuning leaves it as it is.
        dtype: of the encoder's matrix products.
        frozen: its weights learn nothing; gradients still flow through to the action.
    """

    def __init__(self, model: TrajectoryModel, dtype: torch.dtype = torch.float32, frozen: bool = True) -> None:
        super().__init__()
        self.dtype, self.frozen, self.width = dtype, frozen, model.config.width
        self.embed_state = copy.deepcopy(model.embed["states"])
        self.embed_action = copy.deepcopy(model.embed["actions"])
        self.modality_embedding = nn.Parameter(model.modality_embedding.detach()[[STATES, ACTIONS]].clone())
        self.step_embedding: Tensor
        self.register_buffer("step_embedding", model.step_embedding[WINDOW_STEP].clone())
        self.layers = copy.deepcopy(model.encoder)
        self.norm = copy.deepcopy(model.encoder_norm)
        self.bias: Tensor | None = None
        if model.config.encoder_attention == "causal":
            length = model.config.segment_length
            tokens = [modality * length + WINDOW_STEP for modality in (STATES, ACTIONS)]
            self.bias = torch.as_tensor(causal_bias(tokens, tokens, length)).to(self.step_embedding.device)
        self.eval()  # no dropout: the targets of a Q function should not be noisy
        if frozen:
            self.requires_grad_(False)
            self.layers.to(dtype)  # once, instead of a cast of every weight in every pass
            self.norm.to(dtype)

    def forward(self, observations: Tensor, actions: Tensor | None = None) -> Tensor:
        """Outputs of the state token (B, width), or of state and action token side by side (B, 2 width), in `dtype`.

        Args:
            observations: (B, observation_dim), standardised.
            actions: (B, action_dim) in (-1, 1); None: the state token is alone.
        """
        embedding = self.modality_embedding + self.step_embedding
        tokens = [self.embed_state(observations) + embedding[0]]
        if actions is not None:
            tokens.append(self.embed_action(actions) + embedding[1])
        x = torch.stack(tokens, dim=1).to(self.dtype)  # (B, 1 or 2, width)
        bias = None if self.bias is None else self.bias[: len(tokens), : len(tokens)]
        for layer in self.layers:
            x = layer(x, None, bias)
        return self.norm(x).flatten(1)


class Features(nn.Module):
    """What the actor reads of a state and the critic of a state and an action.

    Args:
        observation_dim, action_dim: of the data.
        encoder: None: the standardised observation itself.
        encode_actions: the critic reads the encoder's outputs of state and action token together; otherwise what the
            actor reads, and the action beside it.
    """

    def __init__(
        self, observation_dim: int, action_dim: int, encoder: TokenEncoder | None = None, encode_actions: bool = False
    ) -> None:
        super().__init__()
        if encode_actions and encoder is None:
            raise ValueError("actions are encoded by an encoder")
        self.encoder, self.encode_actions = encoder, encode_actions
        self.state_dim = observation_dim if encoder is None else encoder.width
        self.pair_dim = 2 * self.state_dim if encode_actions else self.state_dim + action_dim

    @property
    def constant(self) -> bool:
        """Whether the features of a transition never change, so that they can be computed beforehand."""
        return self.encoder is None or self.encoder.frozen

    def state(self, observations: Tensor) -> Tensor:
        """(B, state_dim) float32 of standardised observations (B, observation_dim)."""
        return observations if self.encoder is None else self.encoder(observations).float()

    def pair(self, observations: Tensor, actions: Tensor, state: Tensor | None = None) -> Tensor:
        """(B, pair_dim) of standardised observations and actions (B, action_dim) in (-1, 1).

        `state` (B, state_dim), where it is known, saves computing it again. Float32, or with encoded actions the
        encoder's type.
        """
        if self.encode_actions:
            assert self.encoder is not None
            encoded: Tensor = self.encoder(observations, actions)
            return encoded
        return torch.cat([self.state(observations) if state is None else state, actions], dim=1)


def make_features(variant: Variant, model: TrajectoryModel, dtype: torch.dtype = torch.float32) -> Features:
    """The features of a variant.

    raw: no encoder. state_frozen: state token, actions beside it. state_action_frozen: state and action token for the
    critic. random_frozen: the same with an encoder that was never trained (drawn from torch's generator): what the
    architecture alone does. finetuned: as state_action_frozen, and the encoder learns.
    """
    sizes = model.observation_dim, model.action_dim
    if variant == "raw":
        return Features(*sizes)
    if variant == "state_frozen":
        return Features(*sizes, TokenEncoder(model, dtype))
    if variant == "random_frozen":
        model = untrained(model)
    return Features(*sizes, TokenEncoder(model, dtype, frozen=variant != "finetuned"), encode_actions=True)


def untrained(model: TrajectoryModel) -> TrajectoryModel:
    """A model of the same sizes and statistics with first, random weights."""
    fresh = copy.deepcopy(model)
    for module in fresh.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
    with torch.no_grad():
        fresh.modality_embedding.zero_()
    return fresh


@torch.no_grad()
def constant_features(
    features: Features, observations: Tensor, actions: Tensor, next_observations: Tensor
) -> dict[str, Tensor]:
    """Of transitions (N, ...): `state`, `next_state` (N, state_dim); where actions are encoded, `pair` (N, 2 width).

    Raises ValueError where the features learn.
    """
    if not features.constant:
        raise ValueError("the features of a finetuned encoder change")
    computed: dict[str, Tensor] = {}
    for start in range(0, len(observations), ENCODED_ROWS):
        part = slice(start, start + ENCODED_ROWS)
        pieces = {"state": features.state(observations[part]), "next_state": features.state(next_observations[part])}
        if features.encode_actions:
            pieces["pair"] = features.pair(observations[part], actions[part]).float()
        for name, piece in pieces.items():
            if name not in computed:
                computed[name] = piece.new_empty(len(observations), piece.shape[1])
            computed[name][part] = piece
    return computed
