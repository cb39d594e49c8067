"""Forward dynamics: the states that a window's actions lead to, one to T - 1 steps ahead.

    window step       0    1    2    3    4    5    6    7
    states seen       s    .    .    .    .    .    .    .      forward-dynamics mask, current step t = 0
    actions seen      a    a    a    a    a    a    a    a      all of the window, as a planner shows its candidates
    asked for              1    2    3    4    5    6    7      steps ahead

The logged actions were chosen by a policy that saw the states in between, so an action after the step asked for says
something of the state asked for. That is why each error is also measured with the actions from that step on hidden:

    actions seen      a    a    a    .    .    .    .    .      asked for the state at step 3, without later actions
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m3pc_ray.baselines.dynamics import roll_out
from m3pc_ray.evaluation.capabilities.windows import Windows, described, predict, sample_windows, squared_errors
from m3pc_ray.evaluation.held_out import check_sizes
from m3pc_ray.model.masks import ACTIONS, Mask, forward_dynamics

if TYPE_CHECKING:
    from m3pc_ray.model.mlp import MLP, FloatArray
    from m3pc_ray.training.assemble import Models
    from m3pc_ray.trajectories.episodes import Trajectories

WINDOWS = 4096
"""Windows that `forward_dynamics_errors` looks at, at most."""


def forward_dynamics_errors(models: Models, trajectories: Trajectories, *, seed: int = 0) -> dict[int, float]:
    """Steps ahead (1..T-1) to the model's error under the forward-dynamics mask, current step t = 0.

    Mean squared error of the states of `trajectories` (held-out ones, to mean anything), in units of the variance of
    the run's data; on at most `WINDOWS` windows, the same ones for the same seed.
    Raises UserError when the data's sizes are not the run's, or no episode is as long as a window.
    """
    check_sizes(models, trajectories)
    windows = sample_windows(models, trajectories, WINDOWS, seed)
    errors = model_errors(models, windows, t=0)
    return {ahead: float(values.mean()) for ahead, values in errors.items()}


def without_later_actions(mask: Mask, step: int) -> Mask:
    """The mask with the actions from `step` on hidden."""
    hidden = mask.copy()
    hidden[ACTIONS, step:] = False
    return hidden


def model_errors(models: Models, windows: Windows, t: int, *, later_actions: bool = True) -> dict[int, np.ndarray]:
    """Steps ahead to squared errors (B,) of the model from current step t, in units of the data's variance.

    `later_actions` False hides the actions from the step asked for on, which takes a pass for every step ahead.
    """
    length = models.model.config.segment_length
    mask = forward_dynamics(length, t)
    true = windows.array("states")
    if later_actions:
        states = predict(models.model, windows, mask).states
        return {step - t: squared_errors(states[:, step], true[:, step]) for step in range(t + 1, length)}
    errors = {}
    for step in range(t + 1, length):
        states = predict(models.model, windows, without_later_actions(mask, step)).states
        errors[step - t] = squared_errors(states[:, step], true[:, step])
    return errors


def no_change_errors(windows: Windows, t: int) -> dict[int, np.ndarray]:
    """Steps ahead to squared errors (B,) of the guess that the state stays as it is at step t."""
    true = windows.array("states")
    return {step - t: squared_errors(true[:, t], true[:, step]) for step in range(t + 1, true.shape[1])}


def rolled_out(models: Models, windows: Windows, network: MLP, t: int) -> tuple[FloatArray, FloatArray]:
    """An MLP's states (B, T - t, observation_dim) at steps t+1..T and rewards (B, T - t) of steps t..T-1.

    From the true state at step t, each step from what was predicted before, in the units of the model.
    """
    actions = windows.tokens["actions"][:, t:].cpu().numpy()
    states, rewards = roll_out(network, windows.states[:, t], actions)
    statistics = models.statistics
    return (
        (states - statistics.states_mean) / statistics.states_std,
        (rewards - statistics.rewards_mean) / statistics.rewards_std,
    )


def forward_dynamics_rows(
    models: Models, windows: Windows, network: MLP, context_length: int, facts: dict[str, Any]
) -> list[dict[str, Any]]:
    """One row for every number of steps ahead, 1..T-1; `facts` about the MLP go into each of them.

    Errors are mean squared errors in units of the data's variance: `error`, `error_without_later_actions`,
    `no_change_error`, `mlp_error`, from step t = 0; `error_with_history` and
    `error_with_history_without_later_actions` from t = `context_length`, where the model sees the steps before (None
    where that many steps ahead do not fit the window).
    """
    model, blind = model_errors(models, windows, 0), model_errors(models, windows, 0, later_actions=False)
    unchanged = no_change_errors(windows, 0)
    states, _ = rolled_out(models, windows, network, 0)
    true = windows.array("states")
    rolled = {ahead: squared_errors(states[:, ahead - 1], true[:, ahead]) for ahead in model}
    late: dict[int, np.ndarray] = {}
    late_blind: dict[int, np.ndarray] = {}
    if 0 < context_length < true.shape[1] - 1:
        late = model_errors(models, windows, context_length)
        late_blind = model_errors(models, windows, context_length, later_actions=False)
    rows = []
    for ahead in model:
        row: dict[str, Any] = {"capability": "forward_dynamics", "steps_ahead": ahead}
        row |= {"unit": "variance of the states", "mask": "forward_dynamics"}
        row |= described("error", model[ahead], windows.episodes)
        row |= described("error_without_later_actions", blind[ahead], windows.episodes)
        row |= described("no_change_error", unchanged[ahead], windows.episodes)
        row |= described("mlp_error", rolled[ahead], windows.episodes)
        for name, errors in (
            ("error_with_history", late),
            ("error_with_history_without_later_actions", late_blind),
        ):
            nothing = {name: None, f"{name}_sem": None}
            row |= described(name, errors[ahead], windows.episodes) if ahead in errors else nothing
        rows.append(row | {"context_length": context_length, "windows": len(windows)} | facts)
    return rows
