"""Which settings decide what training gives, and whether a run that is there was trained with those a study wants."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import all_settings, value_of
from m3pc_ray.errors import UserError
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.resolve import absolute

NOT_TRAINED = (
    "planner.",
    "backward.",
    "evaluation.",
    "online.",
    "logging.",
    "device",
    "data.folder",
    "data.share_memory",
    "pretrain.log_every",
    "pretrain.validate_every",
    "pretrain.checkpoint_minutes",
    "pretrain.threads",
)
"""Beginnings of settings that change no weight: a finished run is evaluated with whatever they are."""
CLOCK = ("pretrain.order", "pretrain.critic_fraction")
"""They share out pretrain.max_minutes; without it either order gives the same weights."""
ALSO_OF_THE_CRITIC_ALONE = ("pretrain.components", "pretrain.max_minutes", "pretrain.precision")
"""Settings of pretrain.* that a run trains its critic with where it trains nothing else."""


def training_settings(config: RunConfig) -> dict[str, Any]:
    """The settings that decide the weights, by dotted name; those of a component that is not trained are left out."""
    components = config.pretrain.components
    left_out = NOT_TRAINED if config.pretrain.max_minutes else (*NOT_TRAINED, *CLOCK)
    settings = {}
    for name in all_settings():
        model_alone = name.startswith(("masks.", "pretrain.")) and name not in ALSO_OF_THE_CRITIC_ALONE
        critic_alone = name.startswith("critic.") and name != "critic.discount"
        if (
            name.startswith(left_out)
            or (components == "critic" and model_alone)
            or (components == "btm" and critic_alone)
        ):
            continue
        settings[name] = value_of(config, name)
    settings["data.dataset"] = absolute(settings["data.dataset"])
    return settings


def identity(config: RunConfig) -> dict[str, Any]:
    """`training_settings` that differ from the defaults: a setting that m3pc learns later does not change it."""
    defaults = RunConfig()
    return {name: value for name, value in training_settings(config).items() if value != value_of(defaults, name)}


def digest(value: Any) -> str:
    """A short name for what JSON can hold; equal values have equal ones."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def check_agrees(run: RunFolder, wanted: RunConfig, started_from: RunFolder | None) -> None:
    """Raises UserError, naming the setting and both values, where a run was not trained as a study wants.

    Args:
        run: finished or not.
        wanted: the settings that the study would train it with.
        started_from: the run that the component comes from which `wanted` does not train; None: from nowhere.
    """
    found = run.config()
    theirs, ours = training_settings(found), training_settings(wanted)
    for name in ("pretrain.components", *all_settings()):
        if name in ours and (name not in theirs or theirs[name] != ours[name]):
            raise UserError(
                f"{run.path}: {name}: trained with {_shown(value_of(found, name))}, the study wants "
                f"{_shown(ours[name])}; name another --out, or move this run away"
            )
    components = wanted.pretrain.components
    if components == "both" or run.summary().get("status") != "finished":
        return
    taken = "critic_updates" if components == "btm" else "btm_updates"
    expected = 0 if started_from is None else int(started_from.summary().get(taken, 0))
    if run.summary().get(taken, 0) != expected:
        source = "nowhere" if started_from is None else started_from.path.name
        raise UserError(
            f"{run.path}: {taken}: {run.summary().get(taken, 0)} came with what it started from, the study takes that "
            f"from {source} ({expected}); name another --out, or move this run away"
        )


def _shown(value: Any) -> str:
    return "nothing" if value in (None, "") else str(value)
