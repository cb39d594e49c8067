"""Opening HDF5 files and reading arrays of numbers from them; what h5py raises becomes one line that names the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from m3pc_ray.errors import UserError


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """The opened file; what h5py raises on a bad one becomes a UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        known = "truncated" if "truncated" in str(error) else "not HDF5" if "signature" in str(error) else str(error)
        raise UserError(f"{path}: no readable HDF5 file ({known}); copy or download it again") from error
    with file:
        yield file


def read_array(source: str, group: h5py.Group, key: str, kind: type) -> NDArray:
    """A data set of numbers as an array of that kind."""
    dataset = group[key]
    if dataset.dtype.kind not in "fiub":
        raise UserError(f"{source}: {key} holds {dataset.dtype}, numbers are needed")
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes inf, which check_finite names
            return np.asarray(dataset[()]).astype(kind)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{source}: {key} cannot be read, the file is damaged ({error})") from error


def read_matrix(source: str, group: h5py.Group, key: str, kind: type = np.float32) -> NDArray:
    """(steps, size), float32 unless another kind is asked for."""
    values = read_array(source, group, key, kind)
    if values.ndim != 2:
        raise UserError(f"{source}: {key} has shape {values.shape}; (steps, size) is needed")
    return values


def read_vector(source: str, group: h5py.Group, key: str, kind: type) -> NDArray:
    """(steps,), also where it is stored as (steps, 1)."""
    values = read_array(source, group, key, kind)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise UserError(f"{source}: {key} has shape {values.shape}; (steps,) is needed")
    return values
