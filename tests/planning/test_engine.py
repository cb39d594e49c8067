"""The engine against the oracle: same questions, same answers."""

import itertools

import numpy as np
import pytest
import torch

from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.planning import frozen_linear
from m3pc_ray.planning.engine import FastInference
from m3pc_ray.planning.inference import Window
from m3pc_ray.planning.oracle import PlainInference
from tests.planning.factory import ACTION_DIM, OBSERVATION_DIM, fresh_seed, make_model

TOLERANCE = 1e-5  # relative to the scale of what is compared, at least 1: the unit of normalised data


def random_window(seed: int, t: int, batch: int, segment_length: int = 8) -> Window:
    generator = torch.Generator().manual_seed(seed)
    return Window(
        states=torch.randn(batch, t + 1, OBSERVATION_DIM, generator=generator),
        actions=torch.tanh(torch.randn(batch, t, ACTION_DIM, generator=generator)),
        returns=torch.randn(batch, segment_length, 1, generator=generator),
    )


def assert_close(fast: torch.Tensor, plain: torch.Tensor, message: str) -> None:
    assert fast.shape == plain.shape, message
    assert fast.dtype == torch.float32, message
    assert (fast - plain).abs().max() < TOLERANCE * max(1.0, plain.abs().max()), message


def check_all_questions(model: TrajectoryModel, t: int, batch: int, num_candidates: int) -> None:
    length, seed = model.config.segment_length, fresh_seed()
    fast, plain = FastInference(model), PlainInference(model)
    window = random_window(seed, t, batch, length)
    for steps in {1, length - t}:
        ours, theirs = fast.propose(window, steps), plain.propose(window, steps)
        assert_close(ours.mean, theirs.mean, f"mean, seed {seed}, t {t}, steps {steps}")
        assert_close(ours.log_std, theirs.log_std, f"log_std, seed {seed}, t {t}, steps {steps}")
    generator = torch.Generator().manual_seed(seed + 1)
    candidates = torch.tanh(torch.randn(batch, num_candidates, length - t, ACTION_DIM, generator=generator))
    imagined = torch.randn(batch, num_candidates, length - t - 1, OBSERVATION_DIM, generator=generator)
    later = {"states": range(t + 1, length)} if t + 1 < length else {}
    every_question = [
        {"rewards": range(t, length), "returns": range(t, length), **later},  # what a plan with details asks for
        {"states": range(t, length)},  # the current state reconstructed: a visible token
        {"rewards": range(t, t + 1)},
        {"states": range(length), "returns": range(length), "rewards": range(length)},
    ]
    for queries, states in itertools.product(every_question, (None, imagined)):
        ours, theirs = (engine.predict(window, candidates, queries, states) for engine in (fast, plain))
        assert ours.keys() == theirs.keys() == queries.keys()
        for name in queries:
            kind = "FD" if states is None else "RP"
            assert_close(ours[name], theirs[name], f"{kind} {name}, seed {seed}, t {t}, {queries}")


@pytest.mark.parametrize(
    "settings",
    [{}, {"state_prediction": "change"}, {"encoder_attention": "causal"}],
    ids=["default", "change", "causal"],
)
@pytest.mark.parametrize("t", range(8))
def test_engine_equals_oracle_at_every_position(t: int, settings: dict[str, str]) -> None:
    check_all_questions(make_model(fresh_seed(), **settings), t, batch=3, num_candidates=5)


@pytest.mark.parametrize("attention", ["full", "causal"])
@pytest.mark.parametrize("layers", [(1, 1), (3, 1), (2, 2), (1, 3), (0, 1), (2, 0)])
def test_engine_equals_oracle_at_every_depth(layers: tuple[int, int], attention: str) -> None:
    sizes = {"encoder_layers": layers[0], "decoder_layers": layers[1]}
    model = make_model(fresh_seed(), **sizes, encoder_attention=attention)
    for t in (0, 3, 7):
        check_all_questions(model, t, batch=2, num_candidates=3)


@pytest.mark.parametrize(
    "sizes", [{"segment_length": 4}, {"width": 48, "heads": 3, "feedforward_multiple": 2}, {"segment_length": 12}]
)
def test_engine_equals_oracle_at_other_sizes(sizes: dict[str, int]) -> None:
    check_all_questions(make_model(fresh_seed(), **sizes), t=2, batch=2, num_candidates=4)


@pytest.mark.parametrize("attention", ["full", "causal"])
@pytest.mark.parametrize("prediction", ["absolute", "change"])
@pytest.mark.parametrize("layers", [(2, 1), (0, 1), (2, 0), (1, 2)])
@torch.inference_mode()
def test_any_mask_is_answered_as_by_the_model(layers: tuple[int, int], prediction: str, attention: str) -> None:
    seed = fresh_seed()
    settings = {"encoder_attention": attention, "state_prediction": prediction}
    model = make_model(seed, encoder_layers=layers[0], decoder_layers=layers[1], **settings).eval()
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    fast, length = FastInference(model), model.config.segment_length
    dims = {"states": OBSERVATION_DIM, "returns": 1, "actions": ACTION_DIM, "rewards": 1}
    for _ in range(5):
        mask = rng.random((4, length)) < 0.4
        mask[0, 0] = True  # a state before all that are asked for
        tokens = {name: torch.randn(3, length, dim, generator=generator) for name, dim in dims.items()}
        answer, steps = model(tokens, mask), rng.permutation(length)[:4].tolist()
        assert_close(fast.states_behind(tokens, mask, steps), answer.states[:, steps], f"seed {seed}, {mask}, {steps}")
        ours = fast.action_behind(tokens, mask, steps[0])
        assert_close(ours.mean, answer.action_mean[:, steps[0]], f"seed {seed}, {mask}, {steps}")
        assert_close(ours.log_std, answer.action_log_std[:, steps[0]], f"seed {seed}, {mask}, {steps}")


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that holds part of an environment's candidates, or parts of two environments."""
    model = make_model(0)
    window = random_window(1, t=3, batch=3)
    candidates = torch.tanh(torch.randn(3, 37, 5, ACTION_DIM, generator=torch.Generator().manual_seed(2)))
    queries = {"rewards": range(3, 7)}
    whole = FastInference(model).predict(window, candidates, queries)["rewards"]
    monkeypatch.setattr("m3pc_ray.planning.engine.CHUNK_BYTES", 1)  # the smallest: 16 rows
    parts = FastInference(model).predict(window, candidates, queries)["rewards"]
    assert_close(parts, whole, "chunked")


def test_low_precision_is_close() -> None:
    model = make_model(3, width=64)
    window = random_window(4, t=3, batch=2)
    candidates = torch.tanh(torch.randn(2, 64, 5, ACTION_DIM, generator=torch.Generator().manual_seed(5)))
    queries = {"states": range(4, 8), "returns": range(3, 8)}
    exact = PlainInference(model).predict(window, candidates, queries)
    rough = FastInference(model, torch.bfloat16).predict(window, candidates, queries)
    for name, values in exact.items():
        assert rough[name].dtype == torch.float32
        error = (rough[name] - values).square().mean().sqrt()
        assert 0.0 < error < 0.05 * values.std(), name  # 0 would mean that it was not low precision at all


def test_weights_change_at_refresh_only() -> None:
    model = make_model(0)
    window = random_window(1, t=3, batch=1)
    engines = [FastInference(model), PlainInference(model)]
    before = [engine.propose(window, 2).mean for engine in engines]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    for engine, mean in zip(engines, before, strict=True):
        torch.testing.assert_close(engine.propose(window, 2).mean, mean, rtol=0, atol=0)
        engine.refresh()
    after = [engine.propose(window, 2).mean for engine in engines]
    assert_close(after[0], after[1], "after refresh")
    assert np.abs((after[0] - before[0]).numpy()).max() > 1e-3


def test_dropout_plays_no_part() -> None:
    model = make_model(0, dropout=0.5).train()
    window = random_window(1, t=3, batch=1)
    first, second = PlainInference(model).propose(window, 2).mean, FastInference(model).propose(window, 2).mean
    assert_close(second, first, "dropout")
    assert model.training, "the caller's model keeps its mode"


def test_without_fused_products_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_linear, "_fuses", lambda dtype: False)
    check_all_questions(make_model(fresh_seed()), t=3, batch=2, num_candidates=5)
