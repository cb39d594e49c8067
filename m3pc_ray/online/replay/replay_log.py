"""The replay on disk: Arrow IPC streams `RUN/replay/log-000000.arrow`, ..., a row a fragment.

A new file begins at every start of a run, because Arrow cannot append to a stream, and when the last one has grown
large; the one before is closed and synced first, so only the newest file can end in the middle of a batch.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.fragments import Fragment, fragment_schema, from_record_batch, to_record_batch
from m3pc_ray.online.replay.log_file import LogFileWriter, check_tail, cut_tail, damaged, is_closed, read_batch, scan
from m3pc_ray.trajectories.files import sync_folder

LOG_FILE_BYTES = 64 * 2**20
"""Size from which a file is closed and a new one begun, unless told otherwise."""


def log_files(folder: Path) -> list[Path]:
    """Log files of a replay folder in the order they were written.

    Raises:
        UserError: one of them is missing, or the folder cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.match("log-*.arrow")) if folder.exists() else []
    except OSError as error:
        raise UserError(f"{folder}: cannot read the replay log: {error.strerror or error}") from error
    for number, path in enumerate(paths):
        if path.name != _name(number):
            raise UserError(f"{folder}: {_name(number)} is missing, {path.name} is there; put back a copy of it")
    return paths


def read_log(folder: Path, decisions: bool = False) -> Iterator[Fragment]:
    """All fragments of a replay folder in the order they were accepted, up to a half-written tail; nothing is changed.

    Args:
        folder: RUN/replay.
        decisions: with the records of their decisions, where there are any; training needs none.

    Raises:
        UserError: a file cannot be read, is missing, or is damaged where it was acknowledged.
    """
    paths = log_files(folder)
    for path in paths:
        whole, size = 0, _size(path)
        for batch in scan(path):
            yield from from_record_batch(batch.batch, decisions)
            whole = batch.end
        _check_end(path, whole, size, newest=path == paths[-1])


@dataclass
class _IndexedFile:
    """Where a file's batches lie: 16 bytes in memory for each."""

    path: Path
    first: int
    """Number, within the log, of the file's first fragment."""
    schema: pa.Schema
    starts: array[int] = field(default_factory=lambda: array("q"))
    """Byte position of every batch."""
    ends: array[int] = field(default_factory=lambda: array("q"))
    """Fragments of the log up to and including every batch."""


class ReplayLog:
    """The log of a run: appends, and reads from any fragment on at the cost of what it returns.

    Opening it drops a half-written tail and hands every batch to `restore`, in order.

    Args:
        folder: RUN/replay; made where it is missing.
        observation_dim, action_dim: lengths of vectors.
        file_bytes: size from which a new file is begun.

    Raises:
        UserError: the folder or a file cannot be read or written, or what was acknowledged is damaged.
    """

    def __init__(
        self, folder: Path, observation_dim: int, action_dim: int, *, file_bytes: int = LOG_FILE_BYTES
    ) -> None:
        self.folder = folder
        self.schema = fragment_schema(observation_dim, action_dim)
        self.dropped_tail_bytes = 0
        self.num_fragments = 0
        self._file_bytes = file_bytes
        self._files: list[_IndexedFile] = []
        self._writer: LogFileWriter | None = None
        self._finished_bytes = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
        except OSError as error:
            raise UserError(f"{folder}: cannot make the replay's folder: {error.strerror or error}") from error

    def restore(self) -> Iterator[pa.RecordBatch]:
        """Index what is there and yield its batches in order; to be exhausted before anything else is done."""
        paths = log_files(self.folder)
        for path in paths:
            file, whole, size = None, 0, _size(path)
            for logged in scan(path):
                if file is None:
                    file = _IndexedFile(path, self.num_fragments, logged.batch.schema)
                    self._check_sizes(file)
                    self._files.append(file)
                self.num_fragments += logged.batch.num_rows
                file.starts.append(logged.start)
                file.ends.append(self.num_fragments)
                whole = logged.end
                yield logged.batch
            if not _check_end(path, whole, size, newest=path == paths[-1]):
                self.dropped_tail_bytes += cut_tail(path, whole)
            self._finished_bytes += whole

    @property
    def num_files(self) -> int:
        return len(self._files)

    @property
    def num_bytes(self) -> int:
        """Size of the log."""
        return self._finished_bytes + (self._writer.position if self._writer is not None else 0)

    def append(self, fragments: Sequence[Fragment]) -> None:
        """Write fragments as one batch, to be synced before they are acknowledged.

        Raises:
            UserError: the disk is full or the folder cannot be written; the log is as if it had not been asked.
        """
        if self._writer is not None and self._writer.position >= self._file_bytes:
            self.close()
        if self._writer is None:
            path = self.folder / _name(len(self._files))
            self._writer = LogFileWriter(path, self.schema)
            self._files.append(_IndexedFile(path, self.num_fragments, self.schema))
        start = self._writer.position
        self._writer.append(to_record_batch(fragments, self.schema))
        self.num_fragments += len(fragments)
        self._files[-1].starts.append(start)
        self._files[-1].ends.append(self.num_fragments)

    def sync(self) -> None:
        """Force what was appended before this call to the disk; may run beside `append`, in another thread.

        Raises:
            UserError: the disk failed; nothing more is accepted then.
        """
        writer = self._writer
        if writer is not None:
            writer.sync()

    def read(self, start: int, limit: int) -> list[Fragment]:
        """At most `limit` fragments from number `start` on.

        Raises:
            UserError: a file cannot be read.
        """
        fragments: list[Fragment] = []
        place = bisect.bisect_right(self._files, start, key=lambda file: file.first) - 1
        for file in self._files[max(place, 0) :]:
            if len(fragments) < limit:
                fragments += _read_file(file, start + len(fragments), limit - len(fragments))
        return fragments

    def close(self) -> None:
        """End the newest file properly; the next fragments begin a new one.

        Raises:
            UserError: the disk failed; nothing more is accepted then.
        """
        writer = self._writer
        if writer is None:
            return
        if self._files[-1].ends:
            writer.close()
            self._finished_bytes += writer.position
        else:  # its first batch could not be written
            writer.discard()
            self._files.pop()
        self._writer = None

    def _check_sizes(self, file: _IndexedFile) -> None:
        for name in ("observations", "actions"):
            found, expected = (schema.field(name).type.value_type.list_size for schema in (file.schema, self.schema))
            if found != expected:
                raise UserError(f"{file.path}: {name} of length {found}, but the run's are of length {expected}")


def _read_file(file: _IndexedFile, start: int, limit: int) -> list[Fragment]:
    fragments: list[Fragment] = []
    first = bisect.bisect_right(file.ends, start)
    try:
        with pa.OSFile(str(file.path)) as source:
            for place in range(first, len(file.ends)):
                before = file.ends[place - 1] if place else file.first
                batch = from_record_batch(read_batch(source, file.schema, file.starts[place]))
                fragments += batch[max(start - before, 0) : start + limit - before]
                if file.ends[place] >= start + limit:
                    break
    except (pa.ArrowException, OSError, EOFError) as error:
        raise UserError(f"{file.path}: cannot read the replay log: {error}") from error
    return fragments


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: cannot read the replay log: {error.strerror or error}") from error


def half_written_bytes(path: Path) -> int:
    """Bytes after the last whole batch of a log file, which its writer was interrupted in, or is at work on.

    Raises:
        UserError: the file cannot be read.
    """
    whole = 0
    for batch in scan(path):
        whole = batch.end
    try:
        return 0 if whole and is_closed(path, whole) else _size(path) - whole
    except OSError as error:
        raise UserError(f"{path}: cannot read the replay log: {error.strerror or error}") from error


def _check_end(path: Path, whole: int, size: int, newest: bool) -> bool:
    """Whether a file ends properly after `whole` bytes of whole batches, rather than in a half-written tail.

    `size` is that of before it was read: while a run goes on, what was half-written may be followed by more meanwhile.

    Raises:
        UserError: what follows was acknowledged once, and is damaged.
    """
    try:
        if whole and (whole == size or is_closed(path, whole)):
            return True
        if not newest:
            raise damaged(path, whole)
        check_tail(path, whole, size)
    except OSError as error:
        raise UserError(f"{path}: cannot read the replay log: {error.strerror or error}") from error
    return False


def _name(number: int) -> str:
    return f"log-{number:06d}.arrow"
