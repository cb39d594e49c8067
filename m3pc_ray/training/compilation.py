"""Transformer layers compiled by `torch.compile`: fewer passes over memory between the matrix products."""

from __future__ import annotations

import os
import shutil

from m3pc_ray.errors import UserError
from m3pc_ray.model.network import TrajectoryModel

COMPILERS = ("g++", "clang++", "c++")


def compile_layers(model: TrajectoryModel) -> None:
    """Compiles encoder and decoder layers in place, when they are first called; weights keep their names.

    Shapes are dynamic: every mask shows the encoder another number of tokens.

    Raises:
        UserError: the model is on a CPU and the machine has no C++ compiler.
    """
    if model.modality_embedding.device.type == "cpu" and not _compiler():
        raise UserError(
            "pretrain.compile_layers: torch.compile needs a C++ compiler on a CPU; install g++, name one in the "
            "environment variable CXX, or leave the setting false"
        )
    for layer in (*model.encoder, *model.decoder):
        layer.compile(dynamic=True)


def _compiler() -> str | None:
    named = os.environ.get("CXX")
    candidates = (named,) if named else COMPILERS
    return next((found for name in candidates if (found := shutil.which(name))), None)
