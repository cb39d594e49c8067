"""Offline rows of a replay in a file that all runs on a machine map: their memory is the page cache's, once.

    page 0        one line of JSON: name -> type, shape, offset, SHA-256 of every array; one line: SHA-256 of the first
    page 1 ..     the arrays, raw, each from a page of its own on

Reading one runs no code. A run's room for online rows lies behind its mapping, see `online.private_mapping`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3pc_ray.online.replay.private_mapping import ALIGNMENT, map_privately
from m3pc_ray.online.replay.replay_rows import ReplayRows, outcome_widths, step_widths
from m3pc_ray.training.columns import Columns
from m3pc_ray.trajectories.segments import SegmentIndex

FORMAT_VERSION = 1
"""To be raised with every change of the file or of how `fill_rows` makes rows: it is part of the file's name."""
_TYPES = {
    "steps": "<f4",
    "outcomes": "<f4",
    "returns_known": "|b1",
    "transitions": "<i8",
    "segment_starts": "<i8",
    "segment_lasts": "<i8",
}


class DamagedFileError(Exception):
    """A file of rows is not what was written."""


def write_rows(path: Path, rows: ReplayRows) -> None:
    """Write the offline rows, which must lie on the CPU and have no room behind them."""
    arrays: dict[str, NDArray[Any]] = {
        "steps": rows.steps.values.numpy(),
        "outcomes": rows.outcomes.values.numpy(),
        "returns_known": rows.returns_known.numpy(),
        "transitions": rows.transitions,
        "segment_starts": rows.segments.starts,
        "segment_lasts": rows.segments.lasts,
    }
    described: dict[str, dict[str, Any]] = {}
    offset = ALIGNMENT
    for name, array in arrays.items():
        arrays[name] = array = np.ascontiguousarray(array, dtype=_TYPES[name])
        described[name] = {
            "type": _TYPES[name],
            "shape": array.shape,
            "offset": offset,
            "sha256": hashlib.sha256(array.data).hexdigest(),
        }
        offset += math.ceil(array.nbytes / ALIGNMENT) * ALIGNMENT
    header = json.dumps(described).encode()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(header + b"\n" + hashlib.sha256(header).hexdigest().encode() + b"\n")
        for name, array in arrays.items():
            file.seek(described[name]["offset"])
            file.write(array.data)
        file.truncate(offset)


def map_rows(
    descriptor: int,
    observation_dim: int,
    action_dim: int,
    segment_length: int,
    capacity: int,
    device: torch.device | str = "cpu",
) -> ReplayRows:
    """The rows of an open file with room for `capacity` online ones; all of the file is read and checked.

    On the CPU the offline rows stay in the file's pages, elsewhere they are copied to the device.

    Raises:
        DamagedFileError: the file is not what was written.
    """
    described = _header(descriptor)
    maps = {name: _map(descriptor, name, entry, capacity) for name, entry in described.items()}
    tensors = {name: _tensor(maps[name], capacity, device) for name in ("steps", "outcomes", "returns_known")}
    count = len(maps["returns_known"]) - capacity
    steps, outcomes = (
        Columns(widths, count + capacity, device, tensors[name])
        for name, widths in (
            ("steps", step_widths(observation_dim, action_dim)),
            ("outcomes", outcome_widths(observation_dim)),
        )
    )
    segments = SegmentIndex(maps["segment_starts"], maps["segment_lasts"], segment_length)
    return ReplayRows(steps, outcomes, tensors["returns_known"], maps["transitions"], segments, count)


def _header(descriptor: int) -> Mapping[str, Any]:
    first, _, rest = os.pread(descriptor, ALIGNMENT, 0).partition(b"\n")
    if hashlib.sha256(first).hexdigest().encode() != rest[:64]:
        raise DamagedFileError("header")
    described: dict[str, Any] = json.loads(first)
    ends = [entry["offset"] + _bytes(entry) for entry in described.values()]
    if os.fstat(descriptor).st_size < max(ends):  # reading a page behind the end would be a bus error
        raise DamagedFileError("length")
    return described


def _bytes(entry: Mapping[str, Any]) -> int:
    return int(np.dtype(entry["type"]).itemsize * math.prod(entry["shape"]))


def _map(descriptor: int, name: str, entry: Mapping[str, Any], capacity: int) -> NDArray[Any]:
    """An array of the file; those of rows with room for `capacity` more."""
    kind, size, (count, *width) = np.dtype(entry["type"]), _bytes(entry), entry["shape"]
    more = capacity if name in ("steps", "outcomes", "returns_known") else 0
    memory = map_privately(descriptor, entry["offset"], size, more * kind.itemsize * math.prod(width))
    # Reading it also enters its pages into the page table, which no sample has to do then.
    if hashlib.sha256(memoryview(memory)[:size]).hexdigest() != entry["sha256"]:
        raise DamagedFileError(name)
    array: NDArray[Any] = np.frombuffer(memory, kind).reshape(count + more, *width)
    return array


def _tensor(rows: NDArray[Any], capacity: int, device: torch.device | str) -> Tensor:
    values = torch.from_numpy(rows)
    if torch.device(device).type == "cpu":
        return values
    held = torch.zeros(values.shape, dtype=values.dtype, device=device)
    held[: len(values) - capacity] = values[: len(values) - capacity]
    return held
