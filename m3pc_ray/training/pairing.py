"""Two runs that plan together: the checks, and the units of their common utilities."""

from __future__ import annotations

from dataclasses import replace

from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.training.assemble import Models
from m3pc_ray.training.utility_units import measure_utility_units
from m3pc_ray.trajectories.episodes import Trajectories


def check_pair(predicts: Models, proposes: Models) -> None:
    """Raises UserError where two runs cannot plan together: other statistics, window or return scale."""
    for what, first, second in (
        ("statistics of the data", predicts.statistics.to_dict(), proposes.statistics.to_dict()),
        ("model.segment_length", predicts.config.model.segment_length, proposes.config.model.segment_length),
        ("data.return_scale", predicts.config.data.return_scale, proposes.config.data.return_scale),
    ):
        if first != second:
            raise UserError(
                f"the run that proposes actions and the one that predicts differ in the {what}; train both on the same "
                "data with the same window"
            )


def paired_models(predicts: Models, proposes: Models | None, trajectories: Trajectories) -> Models:
    """`predicts` with `planner.utility_unit_*` measured for candidates of `proposes`, as pretraining measures its own.

    A run that was never trained to propose has measured its units with candidates that no pair will ever see.

    Args:
        predicts: gives states, rewards, returns, the critic, the prompt and the settings.
        proposes: gives the distribution of actions; None: `predicts` does, whose critic came from another run.
        trajectories: the data set both learned from.

    Raises:
        UserError: see `check_pair`.
    """
    if proposes is not None:
        check_pair(predicts, proposes)
    if not predicts.config.pretrain.utility_unit_power:
        return predicts
    proposer = None if proposes is None else proposes.model
    units = measure_utility_units(predicts, trajectories, predicts.config.seed, proposer)
    settings = {f"planner.utility_unit_{guide}": unit for guide, unit in units.items()}
    return replace(predicts, config=with_settings(predicts.config, settings))
