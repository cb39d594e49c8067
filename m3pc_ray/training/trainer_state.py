"""Models and trainers as the tensors and the JSON of a checkpoint, the same offline and online."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from m3pc_ray.critic.trainer import IQLTrainer
from m3pc_ray.errors import UserError
from m3pc_ray.training.assemble import Models
from m3pc_ray.training.btm_trainer import BTMTrainer
from m3pc_ray.training.checkpoints import Tensors
from m3pc_ray.training.state import pack_optimizer, unpack_optimizer


def pack_training(models: Models, btm: BTMTrainer, critic: IQLTrainer) -> tuple[Tensors, dict[str, Any]]:
    """(tensors by group, what JSON holds of the optimizers by name): weights, multiplier and optimizers."""
    tensors: Tensors = {
        "btm": dict(models.model.state_dict()),
        "critic": dict(models.critic.state_dict()),
        "multiplier": {"log_multiplier": btm.log_multiplier.detach()},
    }
    optimizers: dict[str, Any] = {}
    for name, optimizer in {**btm.optimizers(), **critic.optimizers()}.items():
        tensors[name], optimizers[name] = pack_optimizer(optimizer)
    return tensors, optimizers


def restore_optimizers(trainer: BTMTrainer | IQLTrainer, tensors: Tensors, packed: Mapping[str, Any]) -> None:
    """A trainer's optimizers as `pack_training` had them.

    Raises:
        UserError: their parameters are laid out differently, as in runs of an earlier version.
    """
    for name, optimizer in trainer.optimizers().items():
        try:
            unpack_optimizer(optimizer, tensors.get(name, {}), packed[name])
        except ValueError as error:
            raise UserError(
                f"checkpoint: {name} was written by another version of m3pc_ray ({error}); it can be evaluated, but to "
                "go on training, pretrain anew"
            ) from error


def restore_multiplier(trainer: BTMTrainer, tensors: Tensors) -> None:
    """The entropy multiplier as `pack_training` had it."""
    with torch.no_grad():
        trainer.log_multiplier.copy_(tensors["multiplier"]["log_multiplier"])
