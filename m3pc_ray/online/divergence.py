"""What is kept when training diverges: the batches of the updates after which a loss was no longer finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

Batches = Mapping[str, Sequence[Mapping[str, Tensor]]]
"""Batches by kind of update, in order: what was trained on since the last finite loss."""


def keep_batches(folder: Path, updates: Mapping[str, int], batches: Batches) -> Path:
    """Write batches as `KIND.NUMBER.FIELD` to a safetensors file of `folder`; returns its path.

    Args:
        folder: made where it does not exist.
        updates: done so far by kind; they name the file.
        batches: by kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"batches-btm-{updates['btm']}-critic-{updates['critic']}.safetensors"
    tensors = {
        f"{kind}.{number}.{field}": values.detach().to("cpu", copy=True).contiguous()
        for kind, parts in batches.items()
        for number, batch in enumerate(parts)
        for field, values in batch.items()
    }
    safetensors.torch.save_file(tensors, path)
    return path


def all_finite(modules: Sequence[torch.nn.Module]) -> bool:
    """Whether every parameter is finite; one synchronisation of the device."""
    finite = [parameter.detach().isfinite().all() for module in modules for parameter in module.parameters()]
    return bool(torch.stack(finite).all())
