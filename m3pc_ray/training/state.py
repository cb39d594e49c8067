"""Optimizers and random generators as tensors and JSON, so that a resumed run continues bit for bit."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import torch


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The optimizer's state as (tensors named `parameter index.key`, everything else for JSON)."""
    whole = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in whole["state"].items():
        scalars[str(index)] = {}
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                scalars[str(index)][key] = value
    groups = []
    for position, group in enumerate(whole["param_groups"]):
        plain = dict(group)
        for key, value in group.items():
            if isinstance(value, torch.Tensor):
                tensors[f"group{position}.{key}"] = plain.pop(key)
        groups.append(plain)
    return tensors, {"state": scalars, "param_groups": groups}


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], packed: dict[str, Any]
) -> None:
    """Restores what `pack_optimizer` gave into an optimizer over parameters of the same shapes, in the same order.

    Raises ValueError where the parameter groups differ.
    """
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in packed["state"].items()}
    groups = [dict(group) for group in packed["param_groups"]]
    for name, tensor in tensors.items():
        owner, _, key = name.partition(".")
        if owner.startswith("group"):
            groups[int(owner.removeprefix("group"))][key] = tensor.clone()
        else:
            state[int(owner)][key] = tensor.clone()
    for group, current in zip(groups, optimizer.state_dict()["param_groups"], strict=True):
        for key, value in group.items():
            if isinstance(value, list) and isinstance(current.get(key), tuple):  # JSON has no tuples
                group[key] = tuple(value)
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def pack_generator(generator: np.random.Generator) -> dict[str, Any]:
    """The state of a numpy generator (PCG64, Philox, ...) for JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, np.ndarray):
            return {"dtype": value.dtype.str, "values": value.tolist()}
        return value.item() if isinstance(value, np.generic) else value

    packed: dict[str, Any] = plain(dict(generator.bit_generator.state))
    return packed


def unpack_generator(packed: dict[str, Any]) -> np.random.Generator:
    """A numpy generator that continues where the packed one stood."""

    def restore(value: Any) -> Any:
        if isinstance(value, dict) and set(value) == {"dtype", "values"}:
            return np.array(value["values"], dtype=value["dtype"])
        if isinstance(value, dict):
            return {key: restore(item) for key, item in value.items()}
        return value

    name = packed["bit_generator"]
    if name not in ("PCG64", "PCG64DXSM", "Philox", "SFC64", "MT19937"):
        raise ValueError(f"unknown bit generator {name!r}")
    bit_generator: np.random.BitGenerator = getattr(np.random, name)()
    bit_generator.state = restore(packed)
    return np.random.Generator(bit_generator)


def pack_torch_generator(generator: torch.Generator | None = None) -> str:
    """The state of a torch generator (None: torch's global one on the CPU) as text."""
    state = torch.get_rng_state() if generator is None else generator.get_state()
    return base64.b64encode(state.cpu().numpy().tobytes()).decode("ascii")


def unpack_torch_generator(packed: str, generator: torch.Generator | None = None) -> None:
    """Restores what `pack_torch_generator` gave, in place (None: into torch's global generator on the CPU)."""
    state = torch.from_numpy(np.frombuffer(base64.b64decode(packed), dtype=np.uint8).copy())
    if generator is None:
        torch.set_rng_state(state)
    else:
        generator.set_state(state)
