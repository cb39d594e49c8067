"""The files of a sweep's conclusions, on any file system of pyarrow: a local folder or an object store."""

from __future__ import annotations

import posixpath
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
from pyarrow import fs

from m3pc_ray.errors import UserError

RESULTS_FILE = "results.parquet"


class SweepFiles:
    """A sweep's folder, wherever it was copied to."""

    def __init__(self, folder: str | Path, filesystem: fs.FileSystem | None = None) -> None:
        """`folder` is a path on this machine, or one of `filesystem`."""
        self.name = str(folder)
        self._filesystem = filesystem if filesystem is not None else fs.LocalFileSystem()
        self._root = str(folder) if filesystem is not None else str(Path(folder).expanduser().absolute())

    def shown(self, name: str) -> str:
        """A file's path as the user would write it."""
        return posixpath.join(self.name, name)

    def read_results(self) -> pa.Table:
        """The table of all reports; raises UserError where folder or file are missing, unreadable or damaged."""
        try:
            if self._filesystem.get_file_info(self._root).type != fs.FileType.Directory:
                raise UserError(f"{self.name}: no such folder of a sweep")
            with self._filesystem.open_input_file(posixpath.join(self._root, RESULTS_FILE)) as file:
                data = file.read_buffer()
        except FileNotFoundError:
            raise UserError(f"{self.name}: holds no {RESULTS_FILE}; `m3pc sweep` writes it as trials report") from None
        except OSError as error:
            raise UserError(f"{self.shown(RESULTS_FILE)}: cannot be read ({_reason(error)})") from error
        try:
            return parquet.read_table(pa.BufferReader(data))
        except (pa.ArrowException, OSError) as error:  # OSError: a page that does not decompress
            raise UserError(f"{self.shown(RESULTS_FILE)}: damaged, no whole Parquet file ({error})") from error

    def write(self, name: str, data: bytes) -> None:
        """Writes a file, complete or not at all; raises UserError where that fails."""
        target = posixpath.join(self._root, name)
        folder, _, file_name = target.rpartition("/")
        fresh = f"{folder}/.{file_name}.part"
        try:
            self._filesystem.create_dir(folder, recursive=True)
            with self._filesystem.open_output_stream(fresh) as stream:
                stream.write(data)
            self._filesystem.move(fresh, target)
        except OSError as error:
            raise UserError(f"{self.shown(name)}: cannot be written ({_reason(error)})") from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
