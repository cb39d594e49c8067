"""Where runs are pushed to and pulled from; every place is a pyarrow file system and a folder in it.

models/hopper                a folder
s3://bucket/models/hopper    an object store that pyarrow knows (s3, gs, abfs, hdfs), or file:///...
hf://owner/name              a Hugging Face repository; needs the extra `hub`
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import ArrowException
from pyarrow import fs as filesystems

from m3pc_ray.errors import UserError

CHUNK_BYTES = 2**20
HUB = "hf://"


@dataclass(frozen=True)
class Place:
    """A folder somewhere.

    Args:
        text: as the user named it, for errors.
        files: the file system.
        base: of the folder in it.
    """

    text: str
    files: Any
    base: str

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """A small file's bytes; None where there is no such file. Raises UserError, also for a larger file."""
        with self._errors("read", name):
            if self.files.get_file_info(self._path(name)).type != filesystems.FileType.File:
                return None
            with self.files.open_input_stream(self._path(name)) as stream:
                found: bytes = stream.read(most_bytes + 1)
        if len(found) > most_bytes:
            raise UserError(f"{self.text}: {name} has more than {most_bytes:,} bytes, so it is none of ours")
        return found

    def fetch(self, name: str) -> Iterator[bytes]:
        """A file in pieces. Raises UserError."""
        with self._errors("read", name), self.files.open_input_stream(self._path(name)) as stream:
            while piece := stream.read(CHUNK_BYTES):
                yield piece

    def write(self, name: str, source: Path | bytes) -> None:
        """A file, over an older one. Raises UserError."""
        with self._errors("write", name):
            parent = self._path(name).rpartition("/")[0]
            if parent:
                self.files.create_dir(parent, recursive=True)
            with self.files.open_output_stream(self._path(name)) as stream:
                if isinstance(source, bytes):
                    stream.write(source)
                    return
                with source.open("rb") as file:
                    while piece := file.read(CHUNK_BYTES):
                        stream.write(piece)

    def delete(self, name: str) -> None:
        """Remove a file that may be there. Raises UserError."""
        with self._errors("remove", name):
            if self.files.get_file_info(self._path(name)).type == filesystems.FileType.File:
                self.files.delete_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.base}/{name}" if self.base else name

    @contextmanager
    def _errors(self, doing: str, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ArrowException, ValueError) as error:
            raise UserError(f"{self.text}: cannot {doing} {name}: {error}") from error


def open_place(text: str, create: bool = False) -> Place:
    """The place that a user names. Raises UserError where it cannot be used.

    Args:
        create: make a Hugging Face repository that is not there; folders are made as files are written.
    """
    if text.startswith(HUB):
        return _hub(text, create)
    if "://" not in text:
        folder = Path(text).expanduser().absolute()
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{text}: is a file; name a folder")
        return Place(text, filesystems.LocalFileSystem(), str(folder))
    try:
        files, base = filesystems.FileSystem.from_uri(text)
    except (ArrowException, OSError, ValueError) as error:
        raise UserError(f"{text}: {error}; name a folder, s3://..., gs://..., file://... or hf://owner/name") from error
    return Place(text, files, base.rstrip("/"))


def _hub(text: str, create: bool) -> Place:
    repository = text.removeprefix(HUB).rstrip("/")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UserError(f"{text}: must be hf://owner/name")
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(f"{text}: needs huggingface_hub; pip install -c constraints.txt '.[hub]'") from error
    try:
        if create:
            huggingface_hub.create_repo(repository, repo_type="model", exist_ok=True)
        files = filesystems.PyFileSystem(filesystems.FSSpecHandler(huggingface_hub.HfFileSystem()))
    except Exception as error:  # its own errors of network, login and rights share no base that older versions have
        raise UserError(f"{text}: {error}") from error
    return Place(text, files, repository)
