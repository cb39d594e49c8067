"""Every role of a run's model, one after the other: rows that begin with `capability` and `error`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from m3pc_ray.agent import Agent
from m3pc_ray.baselines.logged_actions import logged_actions
from m3pc_ray.config import EvaluationConfig
from m3pc_ray.evaluation.capabilities.acting import (
    asked_returns,
    cloned_row,
    cloning_agent,
    known_returns,
    play,
    played_row,
    sweep_rows,
)
from m3pc_ray.evaluation.capabilities.calibration import calibration_rows
from m3pc_ray.evaluation.capabilities.dynamics import forward_dynamics_rows
from m3pc_ray.evaluation.capabilities.fitted import FITS, Fitted, fit
from m3pc_ray.evaluation.capabilities.prediction import (
    ACTION_UNIT,
    action_errors,
    inpainting_rows,
    inverse_dynamics_rows,
    return_rows,
    reward_rows,
)
from m3pc_ray.evaluation.capabilities.windows import Windows, described, sample_windows, squared_errors
from m3pc_ray.model import masks
from m3pc_ray.model.mlp import Training

if TYPE_CHECKING:
    from m3pc_ray.evaluation.evaluate import Progress
    from m3pc_ray.training.assemble import Models
    from m3pc_ray.trajectories.episodes import Trajectories

Watch = Callable[[str, float], None]
"""Called while something is going on: what, and how much of it is done, 0 to 1."""


@dataclass(frozen=True)
class CapabilitiesConfig:
    """How thoroughly to measure."""

    windows: int = 4096
    """Held-out windows, at most."""
    most_mlp_steps: int = 0
    """Gradient steps of an MLP, at most; 0: as many as the model had."""
    episodes: int = 20
    """Episodes of each role that is played."""
    sweep_points: int = 9
    """Returns asked for."""
    sweep_episodes: int = 10
    """Episodes for each of them."""
    seed: int = 1000
    """Of windows, MLPs and the first episode."""


QUICK = CapabilitiesConfig(windows=512, most_mlp_steps=300, episodes=4, sweep_points=4, sweep_episodes=2)
"""What fits into two minutes of two busy cores: 40 CPU seconds on walker2d-medium."""


@dataclass(frozen=True)
class Measured:
    """What is measured, on what.

    Args:
        models: the run's.
        btm_updates: gradient steps that its model had.
        learned: the episodes of the run's own data that it learned from; the MLPs learn from the same.
        held_out: the episodes to measure on.
        folder: keeps the trained MLPs.
    """

    models: Models
    btm_updates: int
    learned: Trajectories
    held_out: Trajectories
    folder: Path


def measure(measured: Measured, config: CapabilitiesConfig, watch: Watch) -> list[dict[str, Any]]:
    """All rows; docs/capabilities.md says what each means.

    Raises UserError where no return of what the run learned from is known, no held-out episode has the length of
    a window, or the environment is not the run's.
    """
    models = measured.models
    length = models.model.config.segment_length
    t = min(models.config.planner.context_length, length - 1)
    known_returns(measured.learned)  # what cannot be measured is known before the MLPs are trained
    windows = sample_windows(models, measured.held_out, config.windows, config.seed)
    fitted, facts = fit_baselines(measured, config, watch)
    networks = {name: baseline.network for name, baseline in fitted.items()}
    watch("errors on held-out windows", 0.0)
    mean_action = np.nanmean(logged_actions(measured.learned).astype(np.float64), axis=0)
    rows = forward_dynamics_rows(models, windows, networks["dynamics"], t, facts["dynamics"])
    watch("errors on held-out windows", 0.6)
    inverse = networks["inverse_dynamics"]
    if t + 1 < length:
        rows += inverse_dynamics_rows(models, windows, inverse, mean_action, t, facts["inverse_dynamics"])
    rows += reward_rows(models, windows, networks["dynamics"], t, facts["dynamics"])
    rows += return_rows(models, windows, t)
    rows += inpainting_rows(models, windows, t)
    calibrated = calibration_rows(models, windows, t)
    watch("errors on held-out windows", 1.0)
    rows += acting_rows(measured, config, windows, fitted["behaviour_cloning"], facts, mean_action, t, watch)
    return rows + calibrated


def fit_baselines(
    measured: Measured, config: CapabilitiesConfig, watch: Watch
) -> tuple[dict[str, Fitted], dict[str, dict[str, Any]]]:
    """The trained MLPs by name, and by name what rows say about them.

    Equal budget means: as many gradient steps as the model had, of as many transitions as it had in a batch (segments x
    steps of a segment), from the same episodes. `mlp_budget_fraction` is the share of those steps that was done.
    """
    pretrain, length = measured.models.config.pretrain, measured.models.model.config.segment_length
    steps = min(measured.btm_updates, config.most_mlp_steps or measured.btm_updates)
    device = next(measured.models.model.parameters()).device
    training = Training(steps, pretrain.batch_size * length, config.seed, device)
    fitted, facts = {}, {}
    for name in FITS:
        what = f"training the {name.replace('_', '-')} MLP"
        watch(what, 0.0)

        def follow(step: int, steps: int, what: str = what) -> None:
            watch(what, step / steps)

        fitted[name] = fit(name, measured.learned, training, measured.folder, follow)
        facts[name] = {
            "mlp_steps": steps,
            "mlp_batch_size": training.batch_size,
            "mlp_budget_fraction": steps / measured.btm_updates,
            "mlp_seconds": fitted[name].seconds,
            "mlp_transitions": fitted[name].rows,
            "mlp_parameters": fitted[name].parameters,
            "btm_updates": measured.btm_updates,
            "btm_parameters": sum(parameter.numel() for parameter in measured.models.model.parameters()),
            "threads": torch.get_num_threads(),
        }
    return fitted, facts


def acting_rows(
    measured: Measured,
    config: CapabilitiesConfig,
    windows: Windows,
    cloned: Fitted,
    facts: dict[str, dict[str, Any]],
    mean_action: np.ndarray,
    t: int,
    watch: Watch,
) -> list[dict[str, Any]]:
    """Behaviour cloning and return conditioning, errors and returns, then the sweep over returns asked for."""
    models, length = measured.models, measured.models.model.config.segment_length
    episodes = EvaluationConfig(episodes=config.episodes, seed=config.seed)
    true = windows.array("actions")[:, t]
    guess = cloned.network.predict(windows.states[:, t])
    plain = described("mlp_error", squared_errors(guess, true), windows.episodes)
    plain |= described(
        "mean_action_error", squared_errors(np.broadcast_to(mean_action, true.shape), true), windows.episodes
    )

    def follow(what: str, count: int) -> Progress:
        watch(what, 0.0)
        longest = count * models.time_limit

        def show(_finished: int, steps: int, _mean: float) -> None:
            watch(what, min(1.0, steps / longest))

        return show

    data = known_returns(measured.learned)
    shared = {"context_length": t, "windows": len(windows), "unit": ACTION_UNIT, "data_return_mean": float(data.mean())}
    clone = cloned_row(models, cloned.network, episodes, follow("playing: MLP clone", config.episodes))
    rows = []
    for name, mask, agent in (
        ("behaviour_cloning", masks.behaviour_cloning(length, t), cloning_agent(models)),
        ("return_conditioned", masks.return_conditioned(length, t), Agent.from_models(models, "none")),
    ):
        row: dict[str, Any] = {"capability": name, "mask": name}
        row |= described("error", action_errors(models, windows, mask, t), windows.episodes) | plain
        returns = play(models, agent, episodes, follow(f"playing: {name.replace('_', ' ')}", config.episodes))
        rows.append(row | played_row(models, returns, episodes) | clone | shared | facts["behaviour_cloning"])
    asked = asked_returns(data, config.sweep_points)
    sweep = dataclasses.replace(episodes, episodes=config.sweep_episodes)
    return rows + sweep_rows(
        models,
        measured.learned,
        asked,
        sweep,
        lambda index: follow(f"playing: asked for {asked[index]:.0f}", config.sweep_episodes),
    )
