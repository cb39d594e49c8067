"""What is pushed of a run and how it comes back: complete or refused, checked by its checksums.

    config.yaml, summary.json, evaluation.json    of the run, where they are there
    checkpoints/step-00012000/*                   its newest complete checkpoint
    README.md                                     the model card
    m3pc-run.json                                 size and SHA-256 of all others; written last

A push that was interrupted leaves no m3pc-run.json, and a pull refuses what has none. Nothing that is pulled is code.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3pc_ray.errors import UserError
from m3pc_ray.training.checkpoints import checkpoint_defects
from m3pc_ray.training.run_folder import RunFolder, check_kept
from m3pc_ray.zoo.card import model_card
from m3pc_ray.zoo.places import CHUNK_BYTES, Place

MANIFEST = "m3pc-run.json"
CARD = "README.md"
FORMAT = 1
BESIDE = ("config.yaml", "summary.json", "evaluation.json")
MOST_MANIFEST_BYTES = 2**20
_NAME = re.compile(r"(config\.yaml|summary\.json|evaluation\.json|README\.md|checkpoints/step-\d{8,}/[\w-]+\.[a-z]+)")
"""What a manifest may name: anything else could leave the folder that is pulled into."""

Progress = Callable[[str, int], None]
"""Called with a file's name and how many bytes of it were moved."""


@dataclass(frozen=True)
class Moved:
    """What a push or pull did."""

    files: int
    bytes: int
    kept: int
    """Files that were there already."""


def push(run: RunFolder, place: Place, force: bool = False, progress: Progress = lambda _name, _bytes: None) -> Moved:
    """Push the newest complete checkpoint of a run, and what belongs to it.

    Args:
        force: replace other weights that are there.

    Raises:
        UserError: the run has no complete checkpoint, other weights are there, or the place cannot be written.
    """
    complete = [step for step, defect in checkpoint_defects(run).items() if defect is None]
    if not complete:
        raise UserError(f"{run.path}: the run has no complete checkpoint, so there is nothing to push")
    folder = run.checkpoints_path / f"step-{complete[-1]:08d}"
    sources: dict[str, Path] = {name: run.path / name for name in BESIDE if (run.path / name).is_file()}
    sources |= {f"checkpoints/{folder.name}/{file.name}": file for file in sorted(folder.iterdir())}
    entries = {name: _entry(path) for name, path in sources.items()}
    card = model_card(run, complete[-1]).encode()
    entries[CARD] = {"bytes": len(card), "sha256": hashlib.sha256(card).hexdigest()}

    there = read_manifest(place)
    if there and _weights(there) != _weights(entries) and not force:
        raise UserError(f"{place.text}: other weights are there; name another destination, or give --force")
    if there == entries:
        return Moved(0, 0, len(entries))
    if there:  # until the new one is written, what is there is not complete
        place.delete(MANIFEST)
    moved = [name for name, entry in entries.items() if there.get(name) != entry]
    for name in moved:
        place.write(name, card if name == CARD else sources[name])
        progress(name, entries[name]["bytes"])
    for name in there.keys() - entries.keys():
        place.delete(name)
    place.write(MANIFEST, (json.dumps({"format": FORMAT, "files": entries}, indent=2) + "\n").encode())
    return Moved(len(moved), sum(entries[name]["bytes"] for name in moved), len(entries) - len(moved))


def pull(
    place: Place, target: str | Path, force: bool = False, progress: Progress = lambda _name, _bytes: None
) -> Moved:
    """Make a run of what was pushed; what an interrupted pull left is used again where its checksums agree.

    Args:
        target: the run's folder; there must be none, or with `force` a run, which is replaced.

    Raises:
        UserError: nothing complete is there, a file does not match its checksum, or the folder holds something.
    """
    check_kept(target)
    path = Path(target).expanduser()
    entries = read_manifest(place)
    if not entries:
        raise UserError(f"{place.text}: no run was pushed there (completely): it has no {MANIFEST}")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        if not force:
            raise UserError(f"{target}: is there already; name another folder, or give --force to replace a run")
        RunFolder.open(path)  # what is no run is not touched
    partial = path.parent / f".{path.name}.pulling"
    moved = []
    try:
        for name, entry in entries.items():
            file = partial / name
            if file.is_file() and _entry(file) == entry:
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as stream:
                for piece in place.fetch(name):
                    stream.write(piece)
            if _entry(file) != entry:
                file.unlink()
                raise UserError(f"{place.text}: {name} does not match its checksum; pull again, or push it again")
            moved.append(name)
            progress(name, entry["bytes"])
        for file in [each for each in partial.rglob("*") if each.is_file()]:  # of an earlier pull of something else
            if file.relative_to(partial).as_posix() not in entries:
                file.unlink()
        if path.is_dir():
            shutil.rmtree(path)
        partial.rename(path)
    except OSError as error:
        raise UserError(f"{error.filename or target}: cannot write the run: {error.strerror}") from error
    return Moved(len(moved), sum(entries[name]["bytes"] for name in moved), len(entries) - len(moved))


def read_manifest(place: Place) -> dict[str, dict[str, Any]]:
    """File -> size and SHA-256; empty where nothing complete is there. Raises UserError where it is malformed."""
    text = place.read(MANIFEST, MOST_MANIFEST_BYTES)
    if text is None:
        return {}
    try:
        manifest = json.loads(text)
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {str(manifest['format'])[:20]} where this version reads {FORMAT}")
        files: dict[str, dict[str, Any]] = {}
        for name, entry in manifest["files"].items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"it names {name[:60]!r}, which no run has")
            files[name] = {"bytes": int(entry["bytes"]), "sha256": str(entry["sha256"])}
        return files
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place.text}: {MANIFEST} is unreadable ({error})") from error


def _weights(entries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: entry for name, entry in entries.items() if name.endswith(".safetensors")}


def _entry(path: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
            size += len(piece)
    return {"bytes": size, "sha256": digest.hexdigest()}
