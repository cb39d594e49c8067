"""One file of the replay log: an Arrow IPC stream whose record batches carry a checksum of themselves.

    schema | batch | batch | ... | end of stream, once the file is closed

The checksum and the number of bytes that were on the disk for certain when the batch was written ("synced") lie in the
batch's custom metadata, which other readers of Arrow pass over. Together they tell a half-written tail, which nobody
was promised, from damage to what was acknowledged.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.files import sync_folder

FORMAT = {b"m3pc": b"replay log 1"}
"""Metadata of the schema of every log file."""
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_NO_CHECKSUM = b"crc32:00000000"
_MARK = re.compile(rb"crc32:([0-9a-f]{8}) synced:(\d{1,18})")
_UNREADABLE = (pa.ArrowException, OSError, EOFError, ValueError)
_LISTS = ("observations", "actions", "rewards")
_COLUMNS = {
    "worker": pa.int32(),
    "incarnation": pa.int32(),
    "episode": pa.int64(),
    "offset": pa.int64(),
    "rewards": pa.list_(pa.float32()),
    "end": pa.int8(),
    "reset_seed": pa.int64(),
    "weight_version_min": pa.int64(),
    "weight_version_max": pa.int64(),
    "planner": pa.string(),
}
"""Columns that every replay log has, apart from the three whose type depends on sizes."""


class LoggedBatch(NamedTuple):
    """A whole record batch and the byte positions at which it starts and ends."""

    batch: pa.RecordBatch
    start: int
    end: int


class LogFileWriter:
    """Writes one new log file; every batch is with the operating system when `append` returns.

    Raises:
        UserError: the file cannot be made; nothing of it is left.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema.with_metadata(FORMAT)
        header = self.schema.serialize().to_pybytes()
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _cannot_write(path, error) from error
        try:
            _write(self._descriptor, header)
            sync_folder(path.parent)
        except OSError as error:
            os.close(self._descriptor)
            path.unlink(missing_ok=True)
            raise _cannot_write(path, error) from error
        self.position = len(header)
        """Bytes written."""
        self.synced = 0
        """Bytes that survive a power loss for certain."""
        self._failure: OSError | None = None
        self._closed = False
        self._closing = threading.Lock()

    def append(self, batch: pa.RecordBatch) -> None:
        """Write a batch.

        Raises:
            UserError: the disk is full, or worse; the file ends with the batch before, and writing may be tried again.
        """
        self._check()
        message = _with_checksum(batch, self.synced)
        try:
            _write(self._descriptor, message)
        except OSError as error:
            self._cut_back()
            raise _cannot_write(self.path, error) from error
        self.position += len(message)

    def sync(self) -> None:
        """Force what was appended before this call to the disk; may run beside `append`, in another thread.

        Raises:
            UserError: the disk failed. What was written since the last sync may be lost, so nothing more is accepted.
        """
        self._check()
        position = self.position
        try:
            with self._closing:
                if self._closed:
                    return  # which has synced it
                descriptor = os.dup(self._descriptor)  # of its own, since the file may be closed meanwhile
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._failure = error  # the system may have dropped the pages: a second fsync would succeed falsely
            raise _cannot_write(self.path, error) from error
        self.synced = max(self.synced, position)

    def close(self) -> None:
        """End the stream, sync the file and close it, whatever happens.

        Raises:
            UserError: as `sync`.
        """
        with self._closing:
            self._closed = True
            try:
                self._check()
                try:
                    _write(self._descriptor, END_OF_STREAM)
                except OSError:  # a full disk; readers do without it
                    self._cut_back()
                os.fsync(self._descriptor)
            except OSError as error:
                self._failure = error
                raise _cannot_write(self.path, error) from error
            finally:
                os.close(self._descriptor)

    def discard(self) -> None:
        """Close the file and remove it: no batch could be written to it."""
        with self._closing:
            self._closed = True
            os.close(self._descriptor)
            self.path.unlink(missing_ok=True)

    def _check(self) -> None:
        if self._failure is not None:
            raise _cannot_write(self.path, self._failure)

    def _cut_back(self) -> None:
        """Remove half a batch, so that the next one follows a whole one."""
        try:
            os.ftruncate(self._descriptor, self.position)
            os.lseek(self._descriptor, self.position, os.SEEK_SET)
        except OSError as error:
            self._failure = error


def scan(path: Path) -> Iterator[LoggedBatch]:
    """The whole, undamaged batches of a log file in order, up to its end or the first thing that is none.

    Raises:
        UserError: the file cannot be read, or is no replay log.
    """
    try:
        with pa.OSFile(str(path)) as source:
            try:
                schema = pa.ipc.read_schema(source)
            except _UNREADABLE:
                return  # its writer died before the first batch
            _check_schema(path, schema)
            start = source.tell()
            while (batch := _next_batch(source, schema)) is not None:
                yield LoggedBatch(batch, start, source.tell())
                start = source.tell()
    except OSError as error:
        raise UserError(f"{path}: cannot read the replay log: {error.strerror or error}") from error


def read_batch(source: pa.NativeFile, schema: pa.Schema, start: int) -> pa.RecordBatch:
    """The batch that starts at a byte position `scan` or a writer has told."""
    source.seek(start)
    return pa.ipc.read_record_batch(pa.ipc.read_message(source), schema)


def is_closed(path: Path, whole: int) -> bool:
    """Whether the stream ends properly right after `whole` bytes of whole batches."""
    with path.open("rb") as file:
        file.seek(whole)
        return file.read(len(END_OF_STREAM)) == END_OF_STREAM


def check_tail(path: Path, whole: int, size: int) -> None:
    """Check that what follows `whole` bytes of whole batches, up to `size`, was never promised to anybody.

    Raises:
        UserError: it was: a later batch says so, or the file was closed after it.
    """
    with path.open("rb") as file:
        file.seek(whole)
        tail = file.read(max(size - whole, 0))
    promised = len(tail) > len(END_OF_STREAM) and tail.endswith(END_OF_STREAM)
    for match in re.finditer(rb"\xff\xff\xff\xff", tail):
        if match.start() > 0 and (whole + match.start()) % 8 == 0 and not promised:
            mark = _checked_mark(pa.BufferReader(tail[match.start() :]))
            promised = mark is not None and int(mark[2]) > whole
    if promised:
        raise damaged(path, whole)


def cut_tail(path: Path, whole: int) -> int:
    """Cut an unclosed file back to its `whole` bytes, and close it (or remove it at 0); returns the bytes dropped.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        dropped = path.stat().st_size - whole
        if whole == 0:
            path.unlink()
        else:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.ftruncate(descriptor, whole)
                with contextlib.suppress(OSError):  # eight bytes that a full disk may lack; readers do without
                    os.pwrite(descriptor, END_OF_STREAM, whole)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return dropped


def damaged(path: Path, position: int) -> UserError:
    """The error for a file whose acknowledged part cannot be read from a byte position on."""
    return UserError(
        f"{path}: damaged at byte {position}: steps that were acknowledged cannot be read; put back a copy of the file"
    )


def _next_batch(source: pa.NativeFile, schema: pa.Schema) -> pa.RecordBatch | None:
    start = source.tell()
    mark = _checked_mark(source)
    if mark is None:
        return None
    end = source.tell()
    try:
        batch = read_batch(source, schema, start)
        batch.validate(full=True)  # a checksum is no protection against somebody who means harm
        _check_content(batch)
    except (*_UNREADABLE, KeyError):
        return None
    source.seek(end)
    return batch


def _checked_mark(source: pa.NativeFile) -> re.Match[bytes] | None:
    """Read one message; its mark if its checksum is right."""
    try:
        message = pa.ipc.read_message(source)
        mark = _MARK.search(message.metadata.to_pybytes())
        return mark if mark and int(mark[1], 16) == _checksum(message) else None
    except _UNREADABLE:
        return None


def _with_checksum(batch: pa.RecordBatch, synced: int) -> bytes:
    """A batch as the bytes of an IPC message that holds its own checksum."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch, custom_metadata={"m3pc": f"{_NO_CHECKSUM.decode()} synced:{synced}"})
    whole = sink.getvalue()
    source = pa.BufferReader(whole)
    pa.ipc.read_message(source)  # the schema
    start = source.tell()
    message = pa.ipc.read_message(source)
    content = bytearray(whole[start : source.tell()])
    place = content.index(_NO_CHECKSUM) + len(b"crc32:")
    content[place : place + 8] = f"{_checksum(message):08x}".encode()
    return bytes(content)


def _checksum(message: pa.ipc.Message) -> int:
    """CRC-32 of a message with its own checksum taken as zeros."""
    metadata = _MARK.sub(lambda mark: _NO_CHECKSUM + mark[0][len(_NO_CHECKSUM) :], message.metadata.to_pybytes(), 1)
    return zlib.crc32(message.body, zlib.crc32(metadata))


def _check_schema(path: Path, schema: pa.Schema) -> None:
    try:
        wrong = [name for name, kind in _COLUMNS.items() if schema.field(name).type != kind]
        observation, action = schema.field("final_observation").type, schema.field("actions").type.value_type
        fits = schema.field("observations").type == pa.list_(observation)
        for kind in (observation, action):
            fits = fits and pa.types.is_fixed_size_list(kind) and kind.value_type == pa.float32()
    except (KeyError, AttributeError):
        wrong, fits = [], False
    if wrong or not fits:
        raise UserError(f"{path}: no replay log: columns {', '.join(wrong) or 'are missing or of the wrong type'}")
    if (schema.metadata or {}).get(b"m3pc") != FORMAT[b"m3pc"]:
        raise UserError(f"{path}: a replay log of another version of m3pc_ray, which this one cannot read")


def _check_content(batch: pa.RecordBatch) -> None:
    """Raises ValueError where a value is missing or an episode's columns differ in length."""
    if any(batch.column(name).null_count for name in (*_COLUMNS, *_LISTS, "final_observation")):
        raise ValueError("a value is missing")
    lengths = [np.diff(batch.column(name).offsets.to_numpy()) for name in _LISTS]
    if any(not np.array_equal(lengths[0], other) for other in lengths[1:]):
        raise ValueError("observations, actions and rewards differ in length")


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot write the replay log: {error.strerror or error}; what was acknowledged is safe: free space or "
        f"repair the disk, then `m3pc resume {path.parent.parent}`"
    )
