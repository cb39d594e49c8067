"""Models and trainers as the tensors and the JSON of a checkpoint, the same offline and online."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from m3pc_ray.critic.trainer import IQLTrainer
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
    """A trainer's optimizers as `pack_training` had them."""
    for name, optimizer in trainer.optimizers().items():
        unpack_optimizer(optimizer, tensors.get(name, {}), packed[name])


def restore_multiplier(trainer: BTMTrainer, tensors: Tensors) -> None:
    """The entropy multiplier as `pack_training` had it."""
    with torch.no_grad():
        trainer.log_multiplier.copy_(tensors["multiplier"]["log_multiplier"])
