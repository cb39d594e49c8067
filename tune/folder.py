"""The folder of a sweep, on a path or in an object store.

    DIR/sweep.yaml          the complete definition
    DIR/results.parquet     every report of every trial (`tune.results`)
    DIR/table.json, .md     what the sweep concludes, with DIR/figures/
    DIR/trials/<trial>/     kind finetune: the run of a trial, where DIR is a path
    DIR/tune/<sitting>/     what Ray Tune keeps, a folder for every time the sweep was started or resumed

Everything but DIR/trials goes through pyarrow.fs, so DIR may be an address such as `s3://bucket/sweeps/lambda`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pyarrow import ArrowInvalid, fs

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.files import replacing

DEFINITION = "sweep.yaml"
RESULTS = "results.parquet"
LOCK = ".lock"
"""Held by the process that runs the sweep, where DIR is a path; `RunFolder.exclusive`."""

_T = TypeVar("_T")


class SweepFolder:
    """Reads and writes files by name, complete or not at all.

    Args:
        location: a path, or an address that pyarrow.fs knows (`s3://`, `gs://`, `hdfs://`, `file://`).
        filesystem: where `location` is a path of; None: this machine's, or the address's.

    Raises:
        UserError: pyarrow knows no such kind of address.
    """

    def __init__(self, location: str | Path, filesystem: fs.FileSystem | None = None) -> None:
        given = str(location)
        is_local = False
        if filesystem is not None:
            self.filesystem, self._root = filesystem, given
        elif "://" in given:
            try:
                self.filesystem, self._root = fs.FileSystem.from_uri(given.rstrip("/"))
            except (ArrowInvalid, OSError) as error:
                raise UserError(f"{given}: pyarrow.fs cannot use this address: {error}") from error
            is_local = isinstance(self.filesystem, fs.LocalFileSystem)
        else:
            self.filesystem, self._root, is_local = fs.LocalFileSystem(), str(Path(given).expanduser().absolute()), True
        self.name = given
        """As the user gave it."""
        self.path = Path(self._root) if is_local else None
        """Where it is on a path."""

    @property
    def address(self) -> str:
        """What any process on any node finds it by: an absolute path, or the address."""
        return str(self.path) if self.path is not None else self.name

    def location(self, name: str) -> str:
        """Path of a file within `filesystem`."""
        return posixpath.join(self._root, name)

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or folder of that name; without one, whether the folder itself holds anything."""
        if not name:
            selector = fs.FileSelector(self._root, allow_not_found=True)
            found = self._do(lambda: self.filesystem.get_file_info(selector), "")
            return any(entry.base_name != LOCK for entry in found)
        found = self._do(lambda: self.filesystem.get_file_info(self.location(name)), name)
        return bool(found.type != fs.FileType.NotFound)

    def is_folder(self) -> bool:
        """Whether there is such a folder; object stores have one as soon as they hold something in it."""
        found = self._do(lambda: self.filesystem.get_file_info(self._root), "")
        return bool(found.type == fs.FileType.Directory)

    def shown(self, name: str) -> str:
        """Where a file is, as the user would write it."""
        return posixpath.join(self.name, name)

    def read(self, name: str) -> bytes:
        """What a file holds. Raises UserError where it cannot be read."""

        def read() -> bytes:
            with self.filesystem.open_input_stream(self.location(name)) as stream:
                return bytes(stream.read())

        return bytes(self._do(read, name))

    def write(self, name: str, content: bytes) -> None:
        """Write a file, complete or not at all. Raises UserError where it cannot be written."""

        def write() -> None:
            target = self.location(name)
            self.filesystem.create_dir(posixpath.dirname(target), recursive=True)
            if self.path is None:  # object stores show an object once it is whole
                with self.filesystem.open_output_stream(target) as stream:
                    stream.write(content)
            else:
                with replacing(target, overwrite=True) as fresh:
                    fresh.write_bytes(content)

        self._do(write, name, "cannot be written")

    def fetch(self, name: str, target: Path) -> None:
        """Copy a folder of it to `target`. Raises UserError where it cannot be read."""

        def copy() -> None:
            target.mkdir(parents=True)
            fs.copy_files(self.location(name), str(target), source_filesystem=self.filesystem)

        self._do(copy, name)

    def _do(self, action: Callable[[], _T], name: str, what: str = "cannot be read") -> _T:
        try:
            return action()
        except OSError as error:
            at = self.shown(name) if name else self.name
            raise UserError(f"{at}: {what} ({error.strerror or error})") from error


def is_sweep(location: str | Path) -> bool:
    """Whether a folder is one that `m3pc sweep` made."""
    return SweepFolder(location).exists(DEFINITION)
