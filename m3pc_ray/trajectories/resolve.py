"""From a reference, as a user types it, to a data set.

| reference | is |
|---|---|
| `bundled/hopper` | the set inside the package |
| a path | a trajectory store (folder), a D4RL or robomimic HDF5 file or a Minari folder |
| `d4rl/hopper-medium-v2` | a D4RL file: in the data folder, else downloaded into it |
| `mujoco/hopper/medium-v0` | a Minari id: in Minari's own folder, else downloaded by Minari |
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories import d4rl, download, minari, robomimic, store
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.validation import environment_from_name

BUNDLED = {"bundled/hopper": Path(__file__).resolve().parents[1] / "data" / "hopper"}
"""Data sets inside the package."""

Kind = Literal["store", "hdf5", "minari"]


@dataclass(frozen=True)
class Location:
    """Where a reference leads."""

    kind: Kind
    path: Path | None
    """File or folder; None: a Minari data set that Minari has yet to download."""
    reference: str


def absolute(name: str) -> str:
    """A data set's name or folder that means the same in every working folder: a path that exists from the root on."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name and path.exists() else name


def locate(reference: str, folder: str = "", progress: download.Progress | None = None) -> Location:
    """What `reference` is and where it lies; a D4RL file that is not there is downloaded into the data folder.

    Raises UserError, with names that are close, where the reference leads nowhere.
    """
    if not reference:
        raise UserError("data.dataset is empty; give a name such as bundled/hopper or d4rl/hopper-medium-v2, or a path")
    if reference in BUNDLED:
        return Location("store", BUNDLED[reference], reference)
    path = Path(reference).expanduser()
    if path.is_dir():
        if (path / store.DATA_FILE).exists():
            return Location("store", path, reference)
        if minari.is_minari_folder(path):
            return Location("minari", path, reference)
        if (path / store.METADATA_FILE).exists():
            raise UserError(f"{path / store.DATA_FILE}: no such file; a trajectory store has one")
        if any(path.glob("log-*.arrow")) or any(path.glob("replay/log-*.arrow")):
            raise UserError(f"{path}: a replay log; make it a data set with `m3pc data convert {path} FOLDER`")
        raise UserError(
            f"{path}: neither a trajectory store ({store.METADATA_FILE}, {store.DATA_FILE}) nor Minari data"
        )
    if path.exists():
        if path.suffix == ".parquet":
            raise UserError(f"{path}: give the folder that holds it, with its {store.METADATA_FILE}")
        return Location("hdf5", path, reference)
    name = download.canonical_name(reference)
    if name is not None:
        found = download.find_local(name, folder) or download.download(name, folder, progress=progress)
        return Location("hdf5", found, reference)
    in_folder = download.d4rl_folder(folder) / reference
    if in_folder.suffix in d4rl.SUFFIXES and in_folder.is_file():
        return Location("hdf5", in_folder, reference)
    if not _looks_like_path(reference) and re.fullmatch(r"([-\w]+/)*[-\w]+-v\d+", reference):
        local = minari.data_folder(minari.datasets_folder() / reference)
        if local is not None or not reference.startswith("d4rl/"):
            return Location("minari", local.parent if local else None, reference)
    known = [*BUNDLED, *download.D4RL_NAMES, *minari.local_ids()]
    close = difflib.get_close_matches(reference, known, n=3, cutoff=0.6)
    hint = f"; close names: {', '.join(close)}" if close else "; `m3pc data list` shows the names"
    raise UserError(f"{reference}: no such file, folder or data set{hint}")


def load(
    reference: str, environment: str = "", folder: str = "", progress: download.Progress | None = None
) -> Trajectories:
    """The data set behind `reference`, checked.

    `environment` replaces the environment it names; `folder` is searched for D4RL files (empty: D4RL's own folder).
    Raises UserError, one line that says what is wrong and where, for a reference that leads nowhere and for bad data.
    """
    return read(locate(reference, folder, progress), environment)


def read(location: Location, environment: str = "", mask: str = "") -> Trajectories:
    """The data set at a location found by `locate`; `mask` names some episodes of a robomimic file.

    HDF5 files of both layouts are told apart by what is in them.
    """
    if location.kind == "hdf5" and location.path is not None and robomimic.is_robomimic(location.path):
        return robomimic.read_robomimic(location.path, environment, mask)
    if mask:
        raise UserError(f"{location.reference}: is no robomimic file, so it has no mask {mask}")
    if location.kind == "minari":
        return minari.read_minari(location.path or location.reference, environment)
    assert location.path is not None
    if location.kind == "hdf5":
        return d4rl.read_hdf5(location.path, environment)
    return store.read_store(location.path, environment)


def identity(reference: str, folder: str = "") -> list[tuple[str, int, int, int, int]]:
    """What tells a data set's files from any others, without reading them: path, inode, size and times of each, in ns.

    Raises UserError as `load`. A Minari data set that is not on this machine is downloaded.
    """
    location = locate(reference, folder)
    if location.path is None:
        read(location)
        location = locate(reference, folder)
    assert location.path is not None
    path = location.path.resolve()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    states = [(file, file.stat()) for file in files]
    return [(str(file), state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns) for file, state in states]


def list_known(folder: str = "") -> list[dict[str, str | bool]]:
    """What can be named, one row each: name, kind, environment, available (on this machine) and path.

    The bundled sets, D4RL's names, further HDF5 files and trajectory stores in the data folder, local Minari sets.
    """
    rows = [_row(name, "bundled", "", path) for name, path in BUNDLED.items()]
    root = download.d4rl_folder(folder)
    files = {name: download.find_local(name, folder) for name in download.D4RL_NAMES}
    rows += [_row(name, "d4rl", environment_from_name(name) or "", path) for name, path in files.items()]
    if root.is_dir():
        others = {path for path in root.iterdir() if path.suffix in d4rl.SUFFIXES} - {
            path for path in files.values() if path is not None
        }
        rows += [_row(str(path), "hdf5", environment_from_name(path.name) or "", path) for path in sorted(others)]
        rows += [_row(str(path), "store", "", path) for path in sorted(root.iterdir()) if store.is_store(path)]
    rows += [_row(name, "minari", "", minari.datasets_folder() / name) for name in minari.local_ids()]
    return rows


def _row(name: str, kind: str, environment: str, path: Path | None) -> dict[str, str | bool]:
    if path is not None and store.is_store(path):
        try:
            environment = store.read_description(path).environment_id
        except UserError:  # `info` says what is wrong with it; the others are listed all the same
            environment = "(unreadable)"
    return {
        "name": name,
        "kind": kind,
        "environment": environment,
        "available": path is not None,
        "path": str(path) if path is not None else "",
    }


def _looks_like_path(reference: str) -> bool:
    return reference.startswith((".", "/", "~")) or Path(reference).suffix in (*d4rl.SUFFIXES, ".parquet")
