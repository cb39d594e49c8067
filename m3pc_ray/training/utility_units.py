"""How far apart candidates' utilities lie: the unit that makes one softmax sharpness fit different data sets.

Utilities of candidates differ by tenths on one data set and by tens on another, with the guide, too, so a sharpness xi
in plain units that averages noise away here plays single samples there. Standardised ones, divided by their mean spread
within a decision, overshoot: where the data is narrow, candidates hardly differ and what differs is mostly the critic's
error. A power of the spread in between, measured once on states of the data, fits both; dividing every decision by its
own spread would not do, since it blows noise up exactly where candidates hardly differ.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from m3pc_ray.environments.actions import to_model_range
from m3pc_ray.errors import UserError
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.training.assemble import Models
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.validity import whole_past

BEST_SHARE = 0.1
"""Share of the steps, taken from the best episodes, on whose states the spread is measured: where planning will act.
Over all states it would be ruled by falling ones (medium-replay 5.0 against 2.9 there, medium 0.80 against 0.58)."""
DECISIONS = 64
"""Decisions the spread is averaged over: a relative standard error of about 10 %."""


def measure_utility_units(
    models: Models, trajectories: Trajectories, seed: int, proposer: TrajectoryModel | None = None
) -> dict[str, float]:
    """Mean over decisions of the standard deviation of utilities over candidates, to the configured power, by guide.

    Args:
        models: trained; `critic` is measured only where the critic has had updates.
        trajectories: states are drawn from its best episodes that hold actions, uniformly over steps.
        seed: of that draw and of the candidates.
        proposer: another model that the candidates come from; None: the same.
    """
    config = replace(models.config.planner, guide="return")
    critic = models.critic if models.critic_updates else None
    device = models.model.modality_embedding.device
    discount = models.config.critic.discount
    planner = ForwardPlanner(models.model, critic, config, discount, models.prompt, device, proposer=proposer)
    best = best_share(trajectories.with_actions(config.context_length), BEST_SHARE)
    context = data_context(models, best, config.context_length, seed)
    units = {}
    for guide in ("return", "critic") if critic is not None else ("return",):
        details = planner.plan(context, guide=guide, details=True).details
        assert details is not None  # asked for, with a guide
        units[guide] = float(details.utilities.std(axis=1).mean()) ** models.config.pretrain.utility_unit_power
    return units


def best_share(trajectories: Trajectories, share: float) -> Trajectories:
    """The fewest episodes of highest return that hold `share` of all steps."""
    ranked = trajectories.best_first()
    steps = np.cumsum(trajectories.lengths[ranked])
    return trajectories.select(ranked[: int(np.searchsorted(steps, share * trajectories.num_steps)) + 1])


def data_context(
    models: Models, trajectories: Trajectories, context_length: int, seed: int, decisions: int = DECISIONS
) -> PlanningContext:
    """So many decisions at random steps of the data, with the steps before them as the past.

    Only at steps whose action is known, and so are those of their past. Raises UserError where there is none.
    """
    rng = np.random.default_rng([seed, 8])
    timesteps = trajectories.timesteps()
    if trajectories.actions_known is None:
        rows = rng.integers(trajectories.num_steps, size=decisions)
    else:
        usable = np.flatnonzero(whole_past(trajectories.actions_known, timesteps, context_length))
        if not len(usable):
            raise UserError(
                f"{trajectories.metadata.name}: no step has its action and those of {context_length} before"
            )
        rows = usable[rng.integers(len(usable), size=decisions)]
    timesteps = timesteps[rows]
    observations = np.zeros((decisions, context_length + 1, trajectories.observation_dim), dtype=np.float32)
    actions = np.zeros((decisions, context_length, trajectories.action_dim), dtype=np.float32)
    logged = to_model_range(trajectories.actions, models.action_low, models.action_high)
    for index, (row, timestep) in enumerate(zip(rows, timesteps, strict=True)):
        position = min(int(timestep), context_length)
        observations[index, : position + 1] = trajectories.observations[row - position : row + 1]
        actions[index, :position] = logged[row - position : row]
    keys = np.stack([np.full(decisions, seed), np.arange(decisions), timesteps], axis=1).astype(np.uint64)
    return PlanningContext(observations, actions, timesteps.astype(np.int64), keys)
