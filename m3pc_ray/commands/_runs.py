"""What commands that act with a run have in common."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from m3pc_ray.config import Guide
from m3pc_ray.errors import UserError

if TYPE_CHECKING:
    from m3pc_ray.training.assemble import Models
    from m3pc_ray.training.run_folder import RunFolder


def load_for_acting(
    arguments: argparse.Namespace, overrides: Mapping[str, str], planners: Sequence[Guide] | None
) -> tuple[RunFolder, Models, list[Guide]]:
    """The run, its models with overridden settings, and the planners asked for, else all that it can do.

    `arguments` has run, checkpoint, device and threads. Raises UserError for what is wrong with any of them, and for
    the planner `critic` of a run without a trained critic when it is asked for.
    """
    import torch

    from m3pc_ray.agent import check_guide
    from m3pc_ray.configuration import with_settings
    from m3pc_ray.training.assemble import load_models
    from m3pc_ray.training.run_folder import RunFolder

    if arguments.threads is not None:
        if arguments.threads < 1:
            raise UserError(f"--threads is {arguments.threads}; at least 1 is needed")
        torch.set_num_threads(arguments.threads)
    folder = RunFolder.open(arguments.run)
    models = load_models(folder, arguments.checkpoint, arguments.device)
    models = dataclasses.replace(models, config=with_settings(models.config, dict(overrides)))
    has_critic = models.critic_updates > 0
    possible: list[Guide] = ["none", "return", "critic"] if has_critic else ["none", "return"]
    chosen = list(dict.fromkeys(planners)) if planners else possible
    for planner in chosen:
        check_guide(planner, has_critic)
    return folder, models, chosen


def load_proposer(
    run: str, predicts: Models, planners: Sequence[Guide], overrides: Mapping[str, str], device: str | None
) -> tuple[Models, Models]:
    """(the predicting models with the units of the pair, the models of `run` that propose actions).

    Units that `planners` need are measured on the data set that the predicting run names, unless `overrides` set them.
    Raises UserError where the two cannot plan together or the data set is not there.
    """
    from m3pc_ray.configuration import with_settings
    from m3pc_ray.training.assemble import load_models
    from m3pc_ray.training.data_parts import data_parts
    from m3pc_ray.training.pairing import check_pair, paired_models
    from m3pc_ray.training.pretraining import load_data
    from m3pc_ray.training.run_folder import RunFolder

    proposes = load_models(RunFolder.open(run), device=device)
    check_pair(predicts, proposes)  # before the data is read, which takes a while
    given = {name: value for name, value in overrides.items() if name.startswith("planner.utility_unit_")}
    needed = {f"planner.utility_unit_{planner}" for planner in planners if planner != "none"}
    if needed <= set(given) or not predicts.config.pretrain.utility_unit_power:
        return predicts, proposes
    parts = data_parts(load_data(predicts.config), predicts.config)
    paired = paired_models(predicts, proposes, parts.transitions)
    return dataclasses.replace(paired, config=with_settings(paired.config, given)), proposes
