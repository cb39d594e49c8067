"""Features against the trajectory model's own forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from m3pc_ray.model.masks import ACTIONS, STATES
from m3pc_ray.representations.features import (
    ENCODED_ROWS,
    WINDOW_STEP,
    TokenEncoder,
    constant_features,
    make_features,
    untrained,
)
from tests.representations.test_td3 import ACTION_DIM, OBSERVATION_DIM, make_batch, make_model


def encoded_by_the_model(observations: Tensor, actions: Tensor | None, model) -> Tensor:
    """What the model's encoder says of these tokens while the model predicts a whole window."""
    length, rows = model.config.segment_length, len(observations)
    tokens = {
        "states": torch.randn(rows, length, OBSERVATION_DIM),
        "returns": torch.randn(rows, length, 1),
        "actions": torch.rand(rows, length, ACTION_DIM),
        "rewards": torch.randn(rows, length, 1),
    }
    tokens["states"][:, WINDOW_STEP] = observations
    mask = np.zeros((4, length), dtype=bool)
    mask[STATES, WINDOW_STEP] = True
    if actions is not None:
        tokens["actions"][:, WINDOW_STEP] = actions
        mask[ACTIONS, WINDOW_STEP] = True
    seen: list[Tensor] = []
    handle = model.encoder_norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    model.eval()
    model(tokens, mask)
    handle.remove()
    return seen[0].flatten(1)


@pytest.mark.parametrize("attention", ["full", "causal"])
@pytest.mark.parametrize("with_action", [False, True])
def test_token_encoder_is_the_models_encoder(attention: str, with_action: bool) -> None:
    model = make_model(5, encoder_attention=attention, dropout=0.1)
    batch = make_batch(1)
    actions = batch["actions"] if with_action else None
    encoded = TokenEncoder(model)(batch["observations"], actions)
    expected = encoded_by_the_model(batch["observations"], actions, model)
    assert encoded.shape == (len(batch["actions"]), 32 if with_action else 16)
    assert torch.allclose(encoded, expected, atol=1e-5)


@pytest.mark.parametrize("variant", ["state_frozen", "state_action_frozen", "random_frozen"])
def test_features_computed_beforehand_are_those_computed_on_the_fly(variant) -> None:
    features = make_features(variant, make_model())
    batch = make_batch(2, rows=ENCODED_ROWS + 7)  # the last pass is shorter
    observations, actions, following = batch["observations"], batch["actions"], batch["next_observations"]
    known = constant_features(features, observations, actions, following)
    at = torch.randint(len(actions), (50,))
    assert torch.allclose(known["state"][at], features.state(observations[at]), atol=1e-5)
    assert torch.allclose(known["next_state"][at], features.state(following[at]), atol=1e-5)
    assert ("pair" in known) == features.encode_actions
    if features.encode_actions:
        assert torch.allclose(known["pair"][at], features.pair(observations[at], actions[at]), atol=1e-5)


def test_features_that_learn_are_not_computed_beforehand() -> None:
    features = make_features("finetuned", make_model())
    batch = make_batch()
    with pytest.raises(ValueError, match="finetuned"):
        constant_features(features, batch["observations"], batch["actions"], batch["next_observations"])


def test_pair_uses_a_state_that_is_known() -> None:
    features = make_features("state_frozen", make_model())
    batch = make_batch()
    state = features.state(batch["observations"])
    pair = features.pair(batch["observations"], batch["actions"], state)
    assert torch.equal(pair, features.pair(batch["observations"], batch["actions"]))
    assert pair.shape[1] == features.pair_dim == 16 + ACTION_DIM


def test_an_untrained_model_shares_sizes_and_no_weight_matrix() -> None:
    model = make_model()
    torch.manual_seed(1)
    first = untrained(model)
    torch.manual_seed(1)
    second = untrained(model)
    for (name, trained), mine, again in zip(
        model.named_parameters(), first.parameters(), second.parameters(), strict=True
    ):
        assert trained.shape == mine.shape
        if name != "mask_tokens":
            assert torch.equal(mine, again)
        if trained.ndim == 2 and "mask_tokens" not in name:
            assert not torch.equal(trained, mine), name
