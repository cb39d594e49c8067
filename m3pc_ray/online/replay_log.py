"""The replay on disk: Arrow IPC streams `RUN/replay/log-000000.arrow`, ..., a row a fragment.

Every start of a run opens a new file, because Arrow cannot append to a stream. A file that ends in the middle of a
message (its writer died) is cut back to its last whole message before anything else is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa

from m3pc_ray.errors import UserError
from m3pc_ray.online.fragments import Fragment, fragment_schema, from_record_batch, to_record_batch


def log_files(folder: Path) -> list[Path]:
    """Log files of a replay folder in the order they were written."""
    return sorted(folder.glob("log-*.arrow"))


def read_log_file(path: Path) -> Iterator[tuple[list[Fragment], int]]:
    """Yield (fragments of a batch, byte position after it) up to the end or to a half-written tail.

    Positions before the first batch: a file without a whole schema yields nothing.
    """
    with pa.OSFile(str(path)) as source:
        try:
            reader = pa.ipc.open_stream(source)
        except (pa.ArrowInvalid, OSError):
            return
        while True:
            try:
                batch = reader.read_next_batch()
            except (StopIteration, pa.ArrowInvalid, OSError):
                return
            yield from_record_batch(batch), source.tell()


def drop_half_written_tail(path: Path) -> int:
    """Cut a log file back to its last whole batch, or remove it where it has none; returns the bytes dropped."""
    whole = 0
    for _, position in read_log_file(path):
        whole = position
    dropped = path.stat().st_size - whole
    if whole == 0:
        path.unlink()
    elif dropped > 0:
        with path.open("r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())
    return dropped


def read_log(folder: Path) -> Iterator[Fragment]:
    """All fragments of a replay folder in the order they were accepted."""
    for path in log_files(folder):
        for fragments, _ in read_log_file(path):
            yield from fragments


class ReplayLogWriter:
    """Appends fragments to a new log file of `folder`; the file appears with the first fragment.

    `append` hands bytes to the operating system, `sync` makes them survive a power loss.
    """

    def __init__(self, folder: Path, observation_dim: int, action_dim: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        existing = log_files(folder)
        number = int(existing[-1].stem.split("-")[1]) + 1 if existing else 0
        self.path = folder / f"log-{number:06d}.arrow"
        self.schema = fragment_schema(observation_dim, action_dim)
        self._file: IO[bytes] | None = None
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def append(self, fragments: Sequence[Fragment]) -> None:
        """Write fragments as one batch.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        batch = to_record_batch(fragments, self.schema)
        try:
            if self._file is None:
                self._file = self.path.open("xb")
                self._writer = pa.ipc.new_stream(self._file, self.schema)
            assert self._writer is not None
            self._writer.write_batch(batch)
            self._file.flush()
        except OSError as error:
            raise UserError(f"{self.path}: cannot write the replay log: {error}") from error

    def sync(self) -> None:
        """Force what was appended to the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """End the stream properly and sync it."""
        if self._file is not None and self._writer is not None:
            self._writer.close()
            self._file.flush()
            self.sync()
            self._file.close()
            self._file = self._writer = None
