"""Errors of what patterns ask for, against those of the built-in validation and against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from m3pc_ray.config import ModelConfig
from m3pc_ray.configuration import read_patterns_file
from m3pc_ray.mask_patterns import MODALITIES, parse_patterns
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.training.data import SegmentData
from m3pc_ray.training.pattern_errors import asked_errors, held_out_tokens
from m3pc_ray.training.validation import validation_errors
from m3pc_ray.trajectories.statistics import compute_statistics
from tests.training.test_pretraining import TIME_LIMIT, make_trajectories

T, NOW = 6, 2


@pytest.fixture
def model_and_data() -> tuple[TrajectoryModel, SegmentData]:
    trajectories = make_trajectories()
    statistics = compute_statistics(trajectories, "average", TIME_LIMIT)
    torch.manual_seed(0)
    model = TrajectoryModel(3, 2, ModelConfig(segment_length=T, width=16, heads=2), statistics).eval()
    bounds = np.full(2, -1.0), np.full(2, 1.0)
    return model, SegmentData(trajectories, statistics, "average", TIME_LIMIT, T, *bounds)


def test_built_in_patterns_have_the_errors_of_validation(model_and_data: tuple[TrajectoryModel, SegmentData]) -> None:
    model, data = model_and_data
    patterns = parse_patterns(read_patterns_file("masks/patterns/built_in"), "built in")
    errors = validation_errors(model, data, NOW, patterns=list(patterns.values()))
    held_out = held_out_tokens(data)
    assert held_out is not None
    rows = {
        (name, row.modality): row
        for name, pattern in patterns.items()
        for row in asked_errors(model, *held_out, pattern, NOW)
    }
    expected = {
        errors["action_error/return_conditioned"]: rows["return_conditioned", "actions"].by_step[NOW],
        errors["action_error/inverse_dynamics"]: rows["inverse_dynamics", "actions"].by_step[NOW],
        errors["action_error/goal"]: rows["goal_with_history", "actions"].error,
        errors["action_error/behaviour_cloning"]: rows["behaviour_cloning", "actions"].error,
        errors["states_error/2_ahead"]: rows["forward_dynamics", "states"].by_step[NOW + 2],
        errors["rewards_error"]: rows["forward_dynamics", "rewards"].error,
        errors["rewards_error/reward_prediction"]: rows["reward_prediction", "rewards"].error,
        errors["returns_error"]: rows["reward_prediction", "returns"].by_step[NOW],
        errors["states_error/inpainting"]: rows["path_inpainting", "states"].error,
    }
    np.testing.assert_allclose(list(expected.values()), list(expected), rtol=1e-5)
    for (name, modality), row in rows.items():
        assert errors[f"pattern_error/{name}/{modality}"] == row.error


def test_only_hidden_and_known_tokens_count(model_and_data: tuple[TrajectoryModel, SegmentData]) -> None:
    """One mask for all segments, asked for more than is hidden; unknown tokens hold nonsense."""
    model, data = model_and_data
    pattern = parse_patterns({"mine": {"states": ["<= t", 4], "asked": {"states": "all", "returns": "> t"}}}, "")[
        "mine"
    ]
    held_out = held_out_tokens(data)
    assert held_out is not None
    tokens = dict(held_out[0])
    exists = torch.rand((len(tokens["states"]), 4, T), generator=torch.Generator().manual_seed(1)) < 0.7
    exists[:, 0, 0] = True
    tokens["states"] = torch.where(exists[:, 0].unsqueeze(-1), tokens["states"], 1e9)
    tokens["returns"] = torch.where(exists[:, 1].unsqueeze(-1), tokens["returns"], 1e9)
    rows = asked_errors(model, tokens, exists, pattern, NOW)
    with torch.no_grad():
        prediction = model(tokens, pattern.visible(T, NOW), exists)
    assert [row.modality for row in rows] == ["states", "returns"]
    for row, steps in zip(rows, ([3, 5], [3, 4, 5]), strict=True):
        squares: dict[int, list[float]] = {step: [] for step in steps}
        difference = (getattr(prediction, row.modality) - tokens[row.modality]).square().mean(-1)
        for segment in range(len(difference)):
            for step in steps:
                if exists[segment, MODALITIES.index(row.modality), step]:
                    squares[step].append(float(difference[segment, step]))
        assert row.by_step == pytest.approx({step: np.mean(values) for step, values in squares.items()}, rel=1e-4)
        assert row.error == pytest.approx(np.mean(sum(squares.values(), [])), rel=1e-4)


def test_random_patterns_are_measured_under_many_masks(
    model_and_data: tuple[TrajectoryModel, SegmentData], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = model_and_data
    pattern = parse_patterns({"mine": {"states": [0, {"random": 0.5}], "asked": {"states": "all"}}}, "")["mine"]
    held_out = held_out_tokens(data)
    assert held_out is not None
    seen: set[bytes] = set()
    forward = model.forward

    def spy(tokens, groups, *rest):  # type: ignore[no-untyped-def]
        seen.update(mask.tobytes() for _, mask in groups)
        return forward(tokens, groups, *rest)

    monkeypatch.setattr(model, "forward", spy)
    first = asked_errors(model, *held_out, pattern, NOW)
    assert len(seen) > 8
    assert asked_errors(model, *held_out, pattern, NOW) == first
    assert asked_errors(model, *held_out, pattern, NOW, seed=1) != first
