"""The episodes that a run did not learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m3pc_ray.errors import UserError

if TYPE_CHECKING:
    from m3pc_ray.training.assemble import Models
    from m3pc_ray.trajectories.episodes import Trajectories


def check_sizes(models: Models, trajectories: Trajectories) -> None:
    """Raises UserError when the data's sizes are not the run's."""
    for name, expected, found in (
        ("observation", models.model.observation_dim, trajectories.observation_dim),
        ("action", models.model.action_dim, trajectories.action_dim),
    ):
        if expected != found:
            raise UserError(f"{trajectories.metadata.name}: {name} size is {found}; the run was trained on {expected}")


def is_data_of_run(models: Models, trajectories: Trajectories) -> bool:
    """Whether the data set has the name of the one that the run was trained on."""
    return trajectories.metadata.name == models.metadata.name


def split_of_run(models: Models, trajectories: Trajectories) -> tuple[Trajectories, Trajectories]:
    """(episodes that the run's model learned from, held-out ones) of its own data set, as its pretraining split it.

    A run on a fraction of the data holds out the same episodes as one on all of it. Raises UserError when the data's
    sizes are not the run's, or when the run held nothing out.
    """
    from m3pc_ray.training.data_parts import data_parts

    check_sizes(models, trajectories)
    config = models.config
    if not config.data.validation_fraction > 0:
        raise UserError(f"the run held no episodes out: data.validation_fraction is {config.data.validation_fraction}")
    parts = data_parts(trajectories, config)
    return parts.train, parts.validation
