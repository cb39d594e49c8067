"""Which episodes of a data set a run learns what from: `data.validation_fraction` and the two other fractions."""

from __future__ import annotations

from dataclasses import dataclass

from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.validity import both


@dataclass(frozen=True)
class DataParts:
    """A data set as a run sees it."""

    train: Trajectories
    """Segments of the trajectory model; episodes beyond `data.labelled_fraction` are without actions."""
    validation: Trajectories
    """Held out for errors alone, with all actions they have."""
    described: Trajectories
    """What statistics and asked returns come from."""
    transitions: Trajectories
    """What the critic, the units of utilities and a replay's offline part draw from; steps may lack actions."""


def data_parts(trajectories: Trajectories, config: RunConfig) -> DataParts:
    """The parts that `config` asks for.

    With all fractions at 1, statistics, critic and replay take the held-out episodes too: those are for the model's
    errors, not for scores. A run on a fraction of the episodes knows nothing of the others, and one on a fraction of
    the actions learns from none of the held-out ones.

    Raises:
        UserError: a fraction is out of its range, or nothing is left for a component that is to be trained.
    """
    data, seed = config.data, split_seed(config)
    train, validation = trajectories.split(data.validation_fraction, seed)
    described = transitions = trajectories
    if data.episodes_fraction < 1.0:
        train = described = transitions = train.fraction(data.episodes_fraction, seed)
    if data.labelled_fraction < 1.0:
        train = transitions = train.labelled_only_in(data.labelled_fraction, seed)
    _check(train, transitions, config.pretrain.components)
    if config.pretrain.utility_unit_power:  # measured at the end, which is late for an error
        transitions.with_actions(config.planner.context_length)
    return DataParts(train, validation, described, transitions)


def split_seed(config: RunConfig) -> int:
    """The seed that decides which episodes are held out, and which make up a fraction."""
    return config.seed if config.data.split_seed is None else config.data.split_seed


def _check(train: Trajectories, transitions: Trajectories, components: str) -> None:
    name = train.metadata.name
    known = train.actions_known
    if components != "critic" and known is not None and not known.any():
        raise UserError(
            f"{name}: no training episode holds an action, so the model could not learn to act; join it with a data "
            "set that has actions (m3pc data convert SRC SRC DST)"
        )
    labelled = both(transitions.actions_known, transitions.rewards_known)
    if components != "btm" and labelled is not None and not labelled.any():
        raise UserError(
            f"{name}: no training step has both its action and its reward, so the critic cannot be trained; set "
            "--pretrain.components btm"
        )
