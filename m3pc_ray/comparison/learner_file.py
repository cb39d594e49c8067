"""A method's checkpoint: tensors and JSON in one safetensors file, complete or absent, that runs no code when read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.files import replacing


def save_learner(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Writes the file over an older one. Raises UserError where it cannot be written."""
    with replacing(path, overwrite=True) as fresh:
        whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        save_file(whole, fresh, metadata={"state": json.dumps(state)})


def load_learner(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, state). Raises UserError for a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, json.loads(file.metadata()["state"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); remove it to train from the start") from error
