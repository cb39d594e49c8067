"""The folder of shared files: whom it trusts, who makes a file, and when files go."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.online.replay import shared_folder as module
from m3pc_ray.online.replay.shared_folder import UNUSED_SECONDS, make_file, making, open_file, shared_folder


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return shared_folder()


def put(path: Path, text: str = "held", age: float = 0.0) -> Path:
    make_file(path, lambda fresh: fresh.write_text(text))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_only_its_user_can_enter_the_folder(folder) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert shared_folder() == folder


def test_a_folder_that_others_may_enter_is_refused(folder) -> None:
    folder.chmod(0o750)
    with pytest.raises(UserError, match=r"others may enter it, so it is not trusted; chmod 700 it"):
        shared_folder()


def test_a_folder_of_another_user_is_refused(folder, monkeypatch) -> None:
    me = os.getuid()
    (folder.parent / f"m3pc-{me + 1}").mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    with pytest.raises(UserError, match="no folder of this user"):
        shared_folder()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_no_folder_is_refused(folder, tmp_path, kind) -> None:
    folder.rmdir()
    if kind == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.write_text("")
    with pytest.raises(UserError, match=f"{folder}: no folder"):
        shared_folder()


def test_a_file_that_is_not_there_or_just_deleted_is_none(folder) -> None:
    path = put(folder / "a.rows")
    assert open_file(folder / "b.rows") is None
    deleter = os.open(path, os.O_RDONLY)
    assert module._try_lock(deleter)
    assert open_file(path) is None  # about to be deleted
    os.close(deleter)
    descriptor = open_file(path)
    assert descriptor is not None
    assert os.read(descriptor, 10) == b"held"
    os.close(descriptor)


def test_a_file_deleted_while_it_is_opened_is_not_taken(folder, monkeypatch) -> None:
    path, lock = put(folder / "a.rows"), module.fcntl.flock

    def deleted_before(descriptor: int, kind: int) -> None:
        path.unlink()
        put(path, "another")
        lock(descriptor, kind)

    monkeypatch.setattr(module.fcntl, "flock", deleted_before)
    assert open_file(path) is None


def test_files_that_nobody_used_for_a_day_go_with_the_next_that_is_made(folder) -> None:
    old, young = put(folder / "old.rows", age=UNUSED_SECONDS + 60), put(folder / "young.rows", age=UNUSED_SECONDS - 600)
    held = put(folder / "held.rows", age=2 * UNUSED_SECONDS)
    holder = os.open(held, os.O_RDONLY)
    module.fcntl.flock(holder, module.fcntl.LOCK_SH)
    opened = put(folder / "opened.rows", age=2 * UNUSED_SECONDS)
    os.close(open_file(opened) or 0)  # which makes it young
    with making(folder):
        assert [path.exists() for path in (old, young, held, opened)] == [False, True, True, True]
    os.close(holder)
    with making(folder):
        assert not held.exists()


def test_one_makes_and_the_others_wait_but_not_for_ever(folder, monkeypatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.2)
    with making(folder), pytest.raises(UserError, match="lock: another process has been making a file"), making(folder):
        pass
    with making(folder):
        pass


def test_a_killed_maker_leaves_nothing_that_stays(folder) -> None:
    program = (
        "import sys, pathlib\n"
        "from m3pc_ray.online.replay.shared_folder import make_file, making\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "def write(path):\n"
        "    path.write_text('half')\n"
        "    print('writing', flush=True)\n"
        "    sys.stdin.read()\n"
        "with making(folder):\n"
        "    make_file(folder / 'a.rows', write)\n"
    )
    maker = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert maker.stdout is not None
    assert maker.stdout.readline() == "writing\n"
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    assert len(list(folder.glob(".*.part"))) == 1
    with making(folder):
        assert [path.name for path in folder.iterdir()] == ["lock"]
        put(folder / "a.rows")
    assert (folder / "a.rows").read_text() == "held"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_maker_leaves_nothing(folder, error) -> None:
    def write(path: Path) -> None:
        path.write_text("half")
        raise error

    with contextlib.suppress(KeyboardInterrupt, UserError), making(folder):
        make_file(folder / "a.rows", write)
        pytest.fail("make_file hid the error")
    assert [path.name for path in folder.iterdir()] == ["lock"]
