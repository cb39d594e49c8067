"""Checkpoints: everything a run needs to go on, complete or absent.

    RUN/checkpoints/step-00012000/<group>.safetensors   tensors, one file a group ("btm", "critic_optimizer", ...)
                                  state.json            everything else
                                  manifest.json         size and SHA-256 of the others, written last

A checkpoint is written into a hidden folder beside its place, synced, and renamed. One whose files do not match the
manifest is passed over for the one before it. Nothing in it is code: reading a stranger's checkpoint runs none, and
only plain files that the manifest names are read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from m3pc_ray.errors import UserError
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.training.state import (
    pack_generator,
    pack_optimizer,
    pack_torch_generator,
    unpack_generator,
    unpack_optimizer,
    unpack_torch_generator,
)
from m3pc_ray.trajectories.files import sync_folder

__all__ = [
    "Tensors",
    "checkpoint_defects",
    "list_checkpoints",
    "load_checkpoint",
    "pack_generator",
    "pack_optimizer",
    "pack_torch_generator",
    "save_checkpoint",
    "unpack_generator",
    "unpack_optimizer",
    "unpack_torch_generator",
]

_FORMAT = 1
_MOST_MANIFEST_BYTES = 2**20
_MOST_STATE_BYTES = 2**26
"""JSON takes many times its size once it is parsed: more than any run writes, less than harms."""
_LOGGER = logging.getLogger(__name__)

Tensors = dict[str, dict[str, torch.Tensor]]


def save_checkpoint(
    run: RunFolder | str | Path,
    step: int,
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    state: Mapping[str, Any],
    keep: int = 2,
) -> Path:
    """Writes the checkpoint of `step` and removes all but the newest `keep` complete ones.

    tensors: group name -> tensor name -> tensor (any device; nothing is modified). state: whatever JSON can hold.
    Raises UserError where the disk is full; earlier checkpoints are then untouched.
    """
    folder = _folder(run)
    final = folder / _name(step)
    partial = folder / f".{final.name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _steps(folder)  # brings back what a crash left half replaced; the other hidden folders are debris
        for debris in folder.glob(".step-*"):
            shutil.rmtree(debris, ignore_errors=True)
        partial.mkdir()
        _write_files(partial, step, tensors, state)
        replaced = folder / f".{final.name}.replaced"
        if final.exists():
            os.replace(final, replaced)
        os.replace(partial, final)
        sync_folder(folder)
        sync_folder(folder.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{final}: the disk is full, so this checkpoint was not written (earlier ones are intact); "
                f"free space, then `m3pc resume {folder.parent}`"
            ) from error
        raise UserError(f"{final}: cannot write the checkpoint: {error.strerror or error}") from error
    for old in list_checkpoints(run)[:-keep]:
        shutil.rmtree(folder / _name(old), ignore_errors=True)
    return final


def list_checkpoints(run: RunFolder | str | Path) -> list[int]:
    """Steps of the complete checkpoints, oldest first (files present with their sizes; checksums are read on load)."""
    return [step for step in _steps(_folder(run)) if _defect(_folder(run) / _name(step), checksums=False) is None]


def checkpoint_defects(run: RunFolder | str | Path) -> dict[int, str | None]:
    """Step -> what is wrong with its checkpoint, None where all checksums match; oldest first. Changes nothing."""
    folder = _folder(run)
    names = sorted(entry.name for entry in folder.glob("step-*")) if folder.is_dir() else []
    return {
        int(name[5:]): _defect(folder / name, checksums=True) for name in names if re.fullmatch(r"step-\d{8,}", name)
    }


def load_checkpoint(run: RunFolder | str | Path, step: int | None = None) -> tuple[Tensors, dict[str, Any]]:
    """Tensors (on the CPU) and state of the checkpoint of `step`, by default of the newest complete one.

    A damaged checkpoint is passed over with a warning; UserError where none is left, or the one asked for is damaged.
    """
    folder = _folder(run)
    steps = _steps(folder)
    if step is not None and step not in steps:
        listing = ", ".join(map(str, steps)) or "none"
        raise UserError(f"{folder}: no checkpoint of step {step}; there are: {listing}")
    for candidate in [step] if step is not None else reversed(steps):
        path = folder / _name(candidate)
        defect = _defect(path, checksums=True)
        if defect is None:
            return _read(path)
        if step is not None:
            raise UserError(f"{path}: damaged checkpoint: {defect}")
        _LOGGER.warning("%s: damaged checkpoint passed over: %s", path, defect)
    raise UserError(f"{folder.parent}: the run has no complete checkpoint; start it again with --overwrite")


def _folder(run: RunFolder | str | Path) -> Path:
    return (run if isinstance(run, RunFolder) else RunFolder(run)).checkpoints_path


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _steps(folder: Path) -> list[int]:
    """Steps that have a folder, oldest first; finishes a replacement that a crash cut in two."""
    try:
        if not folder.is_dir():
            return []
        for entry in folder.glob(".step-*.replaced"):
            place = folder / entry.name.removeprefix(".").removesuffix(".replaced")
            if not place.exists():
                os.replace(entry, place)
        return sorted(int(entry.name[5:]) for entry in folder.iterdir() if re.fullmatch(r"step-\d{8,18}", entry.name))
    except OSError as error:
        raise UserError(f"{folder}: cannot read the checkpoints: {error.strerror or error}") from error


def _write_files(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, torch.Tensor]], state: Mapping[str, Any]
) -> None:
    contents: dict[str, bytes] = {}
    for group, values in tensors.items():
        # Copies: safetensors refuses tensors that share memory, as tied weights and views do.
        own = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in values.items()}
        contents[f"{group}.safetensors"] = safetensors.torch.save(own)
    contents["state.json"] = json.dumps(dict(state)).encode()
    manifest = {
        "format": _FORMAT,
        "step": step,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }
    contents["manifest.json"] = json.dumps(manifest, indent=2).encode()
    for name, content in contents.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(folder)


def _defect(path: Path, checksums: bool) -> str | None:
    """What is wrong with a checkpoint folder, or None."""
    try:
        files = _manifest_files(path)
        for name, expected in files.items():
            file = path / name
            if file.name != name or file.is_symlink():
                return f"{name}: not a plain file name" if file.name != name else f"{name} is a link"
            size = file.stat().st_size
            if size != expected["bytes"]:
                return f"{name} has {size} bytes instead of {expected['bytes']}"
            if checksums and _sha256(file) != expected["sha256"]:
                return f"{name} does not match its checksum"
        if "state.json" not in files:
            return "manifest.json does not name state.json"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"{Path(error.filename or path).name} cannot be read ({error.strerror or error})"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"manifest.json is unreadable ({error})"
    return None


def _manifest_files(path: Path) -> dict[str, dict[str, Any]]:
    """Sizes and checksums by file name. Raises OSError, or anything that comes of unexpected JSON."""
    manifest = _parse(path / "manifest.json", _MOST_MANIFEST_BYTES)
    if manifest["format"] != _FORMAT:
        raise ValueError(f"format {str(manifest['format'])[:20]} where this version reads {_FORMAT}")
    files: dict[str, dict[str, Any]] = manifest["files"]
    return files


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse(path: Path, most_bytes: int) -> Any:
    """JSON of a file. Raises OSError, or ValueError where it is none or too much."""
    if path.stat().st_size > most_bytes:
        raise ValueError(f"{path.name}: larger than {most_bytes} bytes")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path.name}: nested too deeply") from None


def _read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    try:
        tensors = {
            name.removesuffix(".safetensors"): safetensors.torch.load_file(path / name)
            for name in sorted(_manifest_files(path))
            if name.endswith(".safetensors")
        }
        state = _parse(path / "state.json", _MOST_STATE_BYTES)
        if not isinstance(state, dict):
            raise ValueError("state.json: holds no mapping")
    except (OSError, ValueError, TypeError, KeyError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: cannot read the checkpoint: {' '.join(str(error).split())[:200]}") from error
    return tensors, state
