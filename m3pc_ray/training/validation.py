"""Prediction errors of each test-time mask on held-out segments."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from m3pc_ray.mask_patterns import MaskPattern
from m3pc_ray.model.masks import ACTIONS, MODALITIES, RETURNS, REWARDS, STATES, make_test_mask
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
    likelihood: bool = True,
) -> dict[str, float]:
    """Mean squared errors on segments of `data`, the same segments for the same seed.

    Errors of states, rewards and returns are in units of the training data's variance, actions raw (tanh of the mean
    against the logged action). `t` is the current step in the window, as at test time.

    Returns:
        `action_error/<mask>` at step t (return-conditioned, inverse-dynamics, goal and cloning masks);
        `states_error/<k>_ahead` and `rewards_error` (forward-dynamics mask); `returns_error` at t and
        `rewards_error/reward_prediction` (reward-prediction mask); `states_error/inpainting` between t and the last
        step; with `likelihood`, `negative_log_likelihood` and `entropy` of the action at t (return-conditioned mask);
        `pattern_error/<pattern>/<modality>` of what each of `patterns` asks for. An error is over what the data holds:
        missing actions, rewards and returns do not count; where all are, there is no entry.
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

    def record(name: str, values: torch.Tensor, modality: int, steps: int | slice) -> None:
        """The mean of values (segments, ...) at `steps` over what the data holds of the modality, where it does."""
        if exists is not None:
            values = values[exists[:, modality, steps]]
        if len(values):
            errors[name] = float(values.mean())

    def errors_of(prediction: Prediction, modality: int, steps: int | slice) -> torch.Tensor:
        name = MODALITIES[modality]
        predicted = prediction.actions.mode() if modality == ACTIONS else getattr(prediction, name)
        return (predicted[:, steps] - tokens[name][:, steps]).square()

    def record_errors(name: str, prediction: Prediction, modality: int, steps: int | slice) -> None:
        record(name, errors_of(prediction, modality, steps), modality, steps)

    for name in ("return_conditioned", "inverse_dynamics", "goal", "behaviour_cloning"):
        prediction = predict(name)
        record_errors(f"action_error/{name}", prediction, ACTIONS, t)
        if name == "return_conditioned" and likelihood:
            distribution = prediction.actions
            record("negative_log_likelihood", -distribution.log_prob(tokens["actions"])[:, t], ACTIONS, t)
            record("entropy", distribution.entropy()[:, t], ACTIONS, t)
    prediction = predict("forward_dynamics")
    for ahead in range(1, length - t):
        record_errors(f"states_error/{ahead}_ahead", prediction, STATES, t + ahead)
    record_errors("rewards_error", prediction, REWARDS, slice(t, None))
    prediction = predict("reward_prediction")
    record_errors("rewards_error/reward_prediction", prediction, REWARDS, slice(t, None))
    record_errors("returns_error", prediction, RETURNS, t)
    if t + 1 < length - 1:
        record_errors("states_error/inpainting", predict("path_inpainting"), STATES, slice(t + 1, length - 1))
    for pattern in patterns:
        for asked in asked_errors(model, tokens, exists, pattern, t, dtype, seed):
            errors[f"pattern_error/{pattern.name}/{asked.modality}"] = asked.error
    model.train(was_training)
    return errors
