"""Inverse dynamics, rewards, returns and inpainted paths on held-out windows, each beside a plain baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m3pc_ray.baselines.inverse_dynamics import pairs
from m3pc_ray.evaluation.capabilities.dynamics import rolled_out
from m3pc_ray.evaluation.capabilities.windows import Windows, described, predict, squared_errors
from m3pc_ray.model import masks
from m3pc_ray.model.masks import STATES

if TYPE_CHECKING:
    from m3pc_ray.evaluation.capabilities.windows import FloatArray
    from m3pc_ray.model.mlp import MLP
    from m3pc_ray.training.assemble import Models

ACTION_UNIT = "squared action, range -1 to 1"


def action_errors(models: Models, windows: Windows, mask: masks.Mask, t: int) -> FloatArray:
    """(B,) squared error of the mode of the action at step t behind a mask."""
    mode = predict(models.model, windows, mask).actions.mode()[:, t]
    return squared_errors(mode, windows.array("actions")[:, t])


def inverse_dynamics_rows(
    models: Models, windows: Windows, network: MLP, mean_action: FloatArray, t: int, facts: dict[str, Any]
) -> list[dict[str, Any]]:
    """The action at step t from the states around it; `mean_action` (action_dim,) is the training data's.

    The model's mask shows all states of the window; `error_without_later_states` hides those after t + 1, which leaves
    it what the MLP sees, and the past.
    """
    length, true = models.model.config.segment_length, windows.array("actions")[:, t]
    mask = masks.inverse_dynamics(length, t)
    shorter = mask.copy()
    shorter[STATES, t + 2 :] = False
    guess = network.predict(pairs(windows.states[:, t], windows.states[:, t + 1]))
    row: dict[str, Any] = {"capability": "inverse_dynamics", "mask": "inverse_dynamics", "unit": ACTION_UNIT}
    row |= described("error", action_errors(models, windows, mask, t), windows.episodes)
    row |= described("error_without_later_states", action_errors(models, windows, shorter, t), windows.episodes)
    row |= described("mlp_error", squared_errors(guess, true), windows.episodes)
    row |= described("mean_action_error", squared_errors(mean_action, true), windows.episodes)
    return [row | {"context_length": t, "windows": len(windows)} | facts]


def reward_rows(models: Models, windows: Windows, network: MLP, t: int, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Rewards of steps t..T-1 with all states visible, and with those after t hidden.

    The MLP's rewards are those of the true states in the first row, of its own predicted ones in the second.
    """
    length, true = models.model.config.segment_length, windows.array("rewards")[:, t:, 0]
    steps = length - t
    flat = np.concatenate([windows.states[:, t:], windows.tokens["actions"][:, t:].cpu().numpy()], axis=-1)
    statistics = models.statistics
    known = (network.predict(flat)[..., -1] - statistics.rewards_mean) / statistics.rewards_std
    _, imagined = rolled_out(models, windows, network, t)
    rows = []
    for name, mask, mlp in (
        ("reward_prediction", masks.reward_prediction(length, t), known),
        ("forward_dynamics", masks.forward_dynamics(length, t), imagined),
    ):
        predicted = predict(models.model, windows, mask).rewards[:, t:, 0]
        row: dict[str, Any] = {"capability": "reward_prediction", "mask": name, "unit": "variance of the rewards"}
        row |= described("error", squared_errors(predicted, true), windows.episodes)
        row |= described("mlp_error", squared_errors(mlp, true), windows.episodes)
        row |= described("mean_error", np.square(true).mean(axis=1), windows.episodes)
        rows.append(row | {"context_length": t, "steps": steps, "windows": len(windows)} | facts)
    return rows


def return_rows(models: Models, windows: Windows, t: int) -> list[dict[str, Any]]:
    """The return-to-go at step t with all states visible, and with those after t hidden; nothing where none is known.

    In units of the variance of returns-to-go tokens (`data.return_scale`), so that `mean_error`, of the guess that it
    is the mean of the training data, is near 1.
    """
    keep = windows.returns_known
    if not keep.any():
        return []
    length, true = models.model.config.segment_length, windows.array("returns")[:, t, 0]
    episodes = windows.episodes[keep]
    rows = []
    for name, mask in (
        ("reward_prediction", masks.reward_prediction(length, t)),
        ("forward_dynamics", masks.forward_dynamics(length, t)),
    ):
        predicted = predict(models.model, windows, mask).returns[:, t, 0]
        row: dict[str, Any] = {"capability": "return_prediction", "mask": name, "unit": "variance of the returns-to-go"}
        row |= described("error", squared_errors(predicted, true)[keep], episodes)
        row |= described("mean_error", np.square(true)[keep], episodes)
        rows.append(row | {"context_length": t, "windows": int(keep.sum())})
    return rows


def inpainting_rows(models: Models, windows: Windows, context_length: int) -> list[dict[str, Any]]:
    """The states between step t and the window's last, which is given, for t = `context_length` and for t = 0.

    The baseline draws a straight line between the two states.
    """
    length, true = models.model.config.segment_length, windows.array("states")
    trained = models.config.masks.test_mask_fraction > 0 and models.config.masks.path_inpainting_weight > 0
    rows = []
    for t in sorted({context_length, 0}, reverse=True):
        between = np.arange(t + 1, length - 1)
        if not len(between):
            continue
        mask = masks.path_inpainting(length, t, [length - 1])
        predicted = predict(models.model, windows, mask).states[:, t + 1 : length - 1]
        share = ((between - t) / (length - 1 - t))[None, :, None]
        line = (1.0 - share) * true[:, t, None] + share * true[:, -1, None]
        asked = true[:, between]
        row: dict[str, Any] = {"capability": "path_inpainting", "mask": "path_inpainting"}
        row |= {"unit": "variance of the states", "steps_between": len(between), "mask_was_trained": trained}
        row |= described("error", squared_errors(predicted, asked), windows.episodes)
        row |= described("interpolation_error", squared_errors(line, asked), windows.episodes)
        rows.append(row | {"context_length": t, "windows": len(windows)})
    return rows
