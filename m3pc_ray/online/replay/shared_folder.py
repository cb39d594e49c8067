"""A folder of the machine's temporary folder in which runs of one user find files that any of them made.

A file is made once, under a lock, by whoever needs it first; it is complete or absent. Who uses one holds a shared lock
of it, which the kernel gives up with the process, however it ends. Whoever makes a file deletes those that nobody holds
and nobody has opened for a day, and what a killed maker left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.files import replacing

UNUSED_SECONDS = 86_400.0
"""Since a file was last opened, after which it may be deleted."""
WAIT_SECONDS = 600.0
"""Longest wait for another process that makes a file."""
_LOOK_SECONDS = 0.05
_INSTEAD = "or set data.share_memory to false"


def shared_folder() -> Path:
    """The folder, made where it is not there; only its user can read or write it.

    Raises:
        UserError: it cannot be made, or is another user's or open to others.
    """
    path = Path(tempfile.gettempdir()) / f"m3pc-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise UserError(f"{path}: no folder can be made ({error.strerror}); set TMPDIR, {_INSTEAD}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise UserError(f"{path}: no folder of this user, so it is not trusted; remove it, set TMPDIR, {_INSTEAD}")
    if status.st_mode & 0o077:
        raise UserError(f"{path}: others may enter it, so it is not trusted; chmod 700 it, {_INSTEAD}")
    return path


def open_file(path: Path) -> int | None:
    """A descriptor of the file, open for reading and held against deletion until it is closed; None: no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with contextlib.suppress(BlockingIOError, FileNotFoundError):  # it is being deleted, or was just now
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(path), os.fstat(descriptor)):
            os.utime(descriptor)
            return descriptor
    os.close(descriptor)
    return None


@contextlib.contextmanager
def making(folder: Path) -> Iterator[None]:
    """Be the only one of all processes that makes files in the folder; what nobody uses is deleted first.

    Raises:
        UserError: another process has been at it for `WAIT_SECONDS`, or the folder cannot be written to.
    """
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(f"{folder / 'lock'}: cannot be opened ({error.strerror}); free the disk, {_INSTEAD}") from error
    try:
        ends = time.monotonic() + WAIT_SECONDS
        while not _try_lock(descriptor):
            if time.monotonic() >= ends:
                raise UserError(
                    f"{folder / 'lock'}: another process has been making a file here for {WAIT_SECONDS:.0f} s; "
                    f"end it, {_INSTEAD}"
                )
            time.sleep(_LOOK_SECONDS)
        _delete_unused(folder)
        yield
    finally:
        os.close(descriptor)


def make_file(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` make the file, which replaces one that is there. Raises UserError where it cannot be written."""
    with replacing(path, overwrite=True) as fresh:
        write(fresh)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _delete_unused(folder: Path) -> None:
    for path in folder.iterdir():
        if path.suffix == ".part":  # of a maker that was killed: there is no other one now
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != "lock":
            with contextlib.suppress(FileNotFoundError):  # somebody cleans the temporary folder
                _delete_if_unused(path)


def _delete_if_unused(path: Path) -> None:
    if time.time() - path.stat().st_mtime <= UNUSED_SECONDS:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _try_lock(descriptor):
            path.unlink()
    finally:
        os.close(descriptor)
