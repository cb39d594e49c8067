"""What `ray job submit --working-dir FOLDER` would upload, by Ray's own rules."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

from ray._private import ray_constants
from ray._private.runtime_env import packaging

from m3pc_ray.diagnosis.rows import Row

WARNING_BYTES = 64 * 2**20
"""From here on the largest folders are named: the upload takes seconds, and is repeated after every change."""
NAMED = 3
"""Folders named."""
_LOCAL_HEADER, _CENTRAL_HEADER, _END = 30, 46, 22
"""Bytes that a ZIP archive adds a file, twice with its name, and once at its end."""


def check_upload(
    folder: Path, limit: int = packaging.GCS_STORAGE_MAX_SIZE, warn_from: int = WARNING_BYTES
) -> list[Row]:
    """One row: the bytes of the archive that Ray would make of `folder`, against Ray's limit for it."""
    files = uploaded_files(folder)
    total = archive_bytes(folder, files)
    found = (
        f"{len(files):,} files, {_mebibytes(total)} of at most {_mebibytes(limit)} in `ray job submit --working-dir`"
    )
    if total < min(warn_from, limit):
        return [Row("upload", "ok", found)]
    found += f"; most of it in {_largest_folders(folder, files)}"
    advice = "list in .rayignore (same form as .gitignore) what a job does not need, and name data by a shared path"
    return [Row("upload", "failure" if total >= limit else "warning", found, advice)]


def uploaded_files(folder: Path) -> dict[Path, int]:
    """Sizes in bytes of the files that Ray would pack.

    It leaves out .git, .venv, venv and __pycache__, and what .gitignore and .rayignore say in any folder. Ray's own
    walk decides, so that the answer holds for the installed version. Raises OSError where something cannot be read.
    """
    files: dict[Path, int] = {}

    def note(path: Path) -> None:
        if path.is_file():
            files[path] = path.stat().st_size

    folder = folder.absolute()
    excluded = packaging._get_excludes(folder, ray_constants.get_runtime_env_default_excludes())
    respect_gitignore = os.environ.get(ray_constants.RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1"
    quiet = logging.getLogger(f"{__name__}.walk")  # Ray would announce every ignore file
    quiet.setLevel(logging.CRITICAL)
    packaging._dir_travel(folder, [excluded], note, include_gitignore=respect_gitignore, logger=quiet)
    return files


def archive_bytes(folder: Path, files: dict[Path, int]) -> int:
    """Size of the ZIP archive of some files; Ray stores them as they are, without compression."""
    names = (str(path.relative_to(folder.absolute())).encode() for path in files)
    return sum(files.values()) + _END + sum(_LOCAL_HEADER + _CENTRAL_HEADER + 2 * len(name) for name in names)


def _largest_folders(folder: Path, files: dict[Path, int]) -> str:
    sizes: Counter[str] = Counter()
    for path, size in files.items():
        parts = path.relative_to(folder.absolute()).parts
        sizes[f"{parts[0]}/" if len(parts) > 1 else parts[0]] += size
    return ", ".join(f"{name} ({_mebibytes(size)})" for name, size in sizes.most_common(NAMED))


def _mebibytes(count: float) -> str:
    return f"{count / 2**20:,.1f} MiB"
