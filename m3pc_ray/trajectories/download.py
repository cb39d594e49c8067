"""D4RL's files from their server.

The file arrives under a temporary name in the same folder, is checked for its size and for being HDF5, and only then
gets its own name: an interrupted or failed download leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.validation import D4RL_TASKS

D4RL_URL = "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2"
URL_VARIABLE = "M3PC_D4RL_URL"
"""Environment variable that replaces `D4RL_URL`, for a mirror."""
FOLDER_VARIABLE = "D4RL_DATASET_DIR"
"""D4RL's own environment variable for the folder of its files."""
QUALITIES = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")
D4RL_NAMES = tuple(f"d4rl/{task}-{quality}-v2" for task in D4RL_TASKS for quality in QUALITIES)

TIMEOUT_SECONDS = 30.0
_CHUNK = 1 << 18
_SIGNATURE = b"\x89HDF\r\n\x1a\n"

Progress = Callable[[int, int], None]
"""Called with the bytes received so far and the bytes expected (0: the server did not say)."""


def d4rl_folder(folder: str = "") -> Path:
    """The folder of D4RL files: `folder`, else $D4RL_DATASET_DIR, else ~/.d4rl/datasets."""
    return Path(folder or os.environ.get(FOLDER_VARIABLE) or "~/.d4rl/datasets").expanduser()


def canonical_name(reference: str) -> str | None:
    """`d4rl/hopper-medium-v2` for that name and `hopper-medium-v2`; None for what is no D4RL name known here."""
    name = reference if reference.startswith("d4rl/") else f"d4rl/{reference}"
    return name if name in D4RL_NAMES else None


def server_file(name: str) -> str:
    """File behind a canonical name: `d4rl/hopper-medium-replay-v2` -> `hopper_medium_replay-v2.hdf5`."""
    stem, version = name.removeprefix("d4rl/").rsplit("-", 1)
    return f"{stem.replace('-', '_')}-{version}.hdf5"


def find_local(name: str, folder: str = "") -> Path | None:
    """The file of a canonical name in the data folder, under the server's spelling or the name's own."""
    for file in (server_file(name), name.removeprefix("d4rl/") + ".hdf5"):
        if (d4rl_folder(folder) / file).is_file():
            return d4rl_folder(folder) / file
    return None


def download(name: str, folder: str = "", overwrite: bool = False, progress: Progress | None = None) -> Path:
    """Fetch a D4RL file into the data folder and return its path; a file already there is kept unless `overwrite`.

    Raises UserError for a name D4RL does not have, without network, on a wrong size or on something that is not HDF5.
    """
    canonical = canonical_name(name)
    if canonical is None:
        raise UserError(f"{name!r} is no D4RL data set that can be downloaded; `m3pc data list` shows the names")
    present = find_local(canonical, folder)
    if present is not None and not overwrite:
        return present
    url = f"{os.environ.get(URL_VARIABLE, D4RL_URL).rstrip('/')}/{server_file(canonical)}"
    target = d4rl_folder(folder) / server_file(canonical)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise UserError(f"{target}: cannot write into {target.parent} ({error.strerror or error})") from error
    try:
        with os.fdopen(handle, "wb") as file:
            received, expected = _receive(url, file, target.parent, progress)
            file.flush()
            os.fsync(file.fileno())
        if expected and received != expected:
            raise UserError(f"{url}: {received:,} of {expected:,} bytes arrived; try again")
        with open(part, "rb") as file:
            if file.read(len(_SIGNATURE)) != _SIGNATURE:
                raise UserError(f"{url}: what arrived ({received:,} bytes) is no HDF5 file; is it the right address?")
        os.chmod(part, 0o644)
        os.replace(part, target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        Path(part).unlink(missing_ok=True)
    return target


def _receive(url: str, file: BinaryIO, folder: Path, progress: Progress | None) -> tuple[int, int]:
    """(bytes received, bytes the server promised or 0), the body written to `file`, which lies in `folder`."""
    received = expected = 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            expected = int(response.headers.get("Content-Length") or 0)
            free = shutil.disk_usage(folder).free
            if expected > free:
                raise UserError(f"{url}: {expected:,} bytes are needed, {free:,} are free on the disk")
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                received += len(chunk)
                if progress is not None:
                    progress(received, expected)
    except urllib.error.HTTPError as error:
        raise UserError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{url}: cannot be reached ({reason}); check the network, or put the file into the data folder by hand"
        ) from error
    return received, expected
