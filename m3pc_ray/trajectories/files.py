"""Writing files and folders so that they are complete or absent."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from m3pc_ray.errors import UserError


@contextlib.contextmanager
def replacing(target: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a free path beside `target`; what the block writes there, file or folder, becomes `target` at its end.

    When the block fails or is interrupted, it is removed and `target` stays as it was.
    Raises UserError where the target exists (unless `overwrite`) or its folder cannot be written to.
    """
    target = Path(target)
    if target.exists() and not overwrite:
        raise UserError(f"{target} already exists; choose another name or give --overwrite")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        workspace = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    except OSError as error:
        raise UserError(f"{target}: cannot write into {target.parent} ({error.strerror or error})") from error
    try:
        fresh = workspace / "new"
        try:
            yield fresh
        except OSError as error:  # no space left, a limit on file size, ...
            raise UserError(f"{target}: cannot be written ({error.strerror or error})") from error
        if target.is_dir():  # a folder cannot be replaced in one step: move the old one aside first
            os.replace(target, workspace / "old")
        os.replace(fresh, target)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def sync_folder(folder: str | Path) -> None:
    """Force a folder's entries to the disk: a new or renamed file survives a power loss only once this is done."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_bytes(path: str | Path) -> int:
    """Size of a file, or of all files in a folder."""
    path = Path(path)
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
