"""Prediction errors of each test-time mask on held-out segments."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from m3pc_ray.mask_patterns import MaskPattern
from m3pc_ray.model.masks import make_test_mask
from m3pc_ray.model.network import Prediction, TrajectoryModel
from m3pc_ray.training.data import SegmentData
from m3pc_ray.training.pattern_errors import asked_errors, held_out_tokens


@torch.no_grad()
def validation_errors(
    model: TrajectoryModel,
    data: SegmentData,
    t: int,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    patterns: Sequence[MaskPattern] = (),
) -> dict[str, float]:
    """Mean squared errors on segments of `data`, the same segments for the same seed.

    Errors of states, rewards and returns are in units of the training data's variance, actions raw (tanh of the mean
    against the logged action). `t` is the current step in the window, as at test time.

    Returns:
        `action_error/<mask>` at step t (return-conditioned, inverse-dynamics, goal and cloning masks);
        `states_error/<k>_ahead` and `rewards_error` (forward-dynamics mask); `returns_error` at t and
        `rewards_error/reward_prediction` (reward-prediction mask); `states_error/inpainting` between t and the last
        step; `negative_log_likelihood` and `entropy` of the action at t (return-conditioned mask);
        `pattern_error/<pattern>/<modality>` of what each of `patterns` asks for.
    """
    held_out = held_out_tokens(data, seed)
    if held_out is None:
        return {}
    tokens, exists = held_out
    length = model.config.segment_length
    was_training = model.training
    model.eval()
    errors: dict[str, float] = {}

    def predict(name: str) -> Prediction:
        return model(tokens, make_test_mask(name, length, t), exists, dtype)

    def mean_square(difference: torch.Tensor) -> float:
        return float(difference.square().mean())

    for name in ("return_conditioned", "inverse_dynamics", "goal", "behaviour_cloning"):
        prediction = predict(name)
        errors[f"action_error/{name}"] = mean_square(prediction.actions.mode()[:, t] - tokens["actions"][:, t])
        if name == "return_conditioned":
            distribution = prediction.actions
            errors["negative_log_likelihood"] = -float(distribution.log_prob(tokens["actions"])[:, t].mean())
            errors["entropy"] = float(distribution.entropy()[:, t].mean())
    prediction = predict("forward_dynamics")
    for ahead in range(1, length - t):
        errors[f"states_error/{ahead}_ahead"] = mean_square(
            prediction.states[:, t + ahead] - tokens["states"][:, t + ahead]
        )
    errors["rewards_error"] = mean_square(prediction.rewards[:, t:] - tokens["rewards"][:, t:])
    prediction = predict("reward_prediction")
    errors["rewards_error/reward_prediction"] = mean_square(prediction.rewards[:, t:] - tokens["rewards"][:, t:])
    known = torch.ones_like(tokens["returns"][:, t, 0], dtype=torch.bool) if exists is None else exists[:, 1, t]
    if known.any():
        errors["returns_error"] = mean_square((prediction.returns - tokens["returns"])[:, t][known])
    if t + 1 < length - 1:
        prediction = predict("path_inpainting")
        errors["states_error/inpainting"] = mean_square((prediction.states - tokens["states"])[:, t + 1 : length - 1])
    for pattern in patterns:
        for asked in asked_errors(model, tokens, exists, pattern, t, dtype, seed):
            errors[f"pattern_error/{pattern.name}/{asked.modality}"] = asked.error
    model.train(was_training)
    return errors
