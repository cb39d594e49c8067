"""Whether data sets are what they were when they were written."""

from __future__ import annotations

import hashlib
from pathlib import Path

from m3pc_ray.diagnosis.rows import Row
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories import download, resolve
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.store import checksum


def load_here(reference: str, environment: str = "", folder: str = "") -> tuple[resolve.Location, Trajectories]:
    """A data set that lies on this machine, checked as every command checks it; nothing is downloaded.

    Raises UserError where it is not here or not whole.
    """
    name = download.canonical_name(reference) if not Path(reference).expanduser().exists() else None
    if name is not None and download.find_local(name, folder) is None:
        raise UserError(f"{name} is not on this machine; fetch it with `m3pc data download {name}`")
    location = resolve.locate(reference, folder)
    if location.path is None:
        raise UserError(f"{reference} is not on this machine; Minari downloads it when a command first reads it")
    return location, resolve.read(location, environment)


def check_data(reference: str, location: resolve.Location, trajectories: Trajectories) -> list[Row]:
    """One row on a data set that `load_here` has read: the checksum it was compared with, or which one it has."""
    name = f"data {reference}"
    size = (
        f"{trajectories.num_episodes:,} episodes, {trajectories.num_steps:,} steps, every number finite and in bounds"
    )
    if location.kind == "store":  # reading compared it
        return [Row(name, "ok", f"{size}; {_short(checksum(trajectories))} as its description says")]
    assert location.path is not None
    if location.path.is_file():
        digest = _short(f"sha256:{_file_digest(location.path)}")
        found = f"{size}; the file has {digest}, which nothing here can confirm"
    else:
        found = f"{size}; {_short(checksum(trajectories))}, which nothing here can confirm"
    advice = "`m3pc data convert` makes a trajectory store of it, which carries its checksum"
    return [Row(name, "not checked", found, advice)]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(digest: str) -> str:
    return digest[: len("sha256:") + 16]
