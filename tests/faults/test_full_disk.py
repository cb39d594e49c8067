"""A full disk: one clear error, nothing acknowledged is lost, and the run goes on once there is room."""

import contextlib
import errno
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.fragments import Fragment
from m3pc_ray.online.replay.rate_limiter import RateLimiter
from m3pc_ray.online.replay.replay_keeper import ReplayKeeper
from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.training.checkpoints import list_checkpoints, load_checkpoint, save_checkpoint
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.episodes import EpisodeEnd
from tests.online.factory import make_fragment

pytestmark = pytest.mark.faults

REPOSITORY = Path(__file__).parents[2]


def keeper(run: Path, **options: object) -> ReplayKeeper:
    return ReplayKeeper(run / "replay", RateLimiter(10**6, {"critic": 1.0}, 10, 5), 3, 2, **options)


def fill_disk(folder: Path) -> Path:
    """Take all room that is left."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return path


def episode(number: int) -> Fragment:
    return make_fragment(number, 0, 50, EpisodeEnd.TERMINATED)


def append_until_full(it: ReplayKeeper, first: int = 0) -> int:
    """Append episodes, syncing each; the number of the one that was refused."""
    number = first
    refusal = None
    while refusal is None:
        try:
            it.append([episode(number)])
            it.sync()
            number += 1
        except UserError as error:
            refusal = str(error)
    assert re.search("cannot write the replay log: .*free space.*m3pc resume", refusal)
    return number


@pytest.mark.parametrize("log_file_bytes", [2**26, 20_000], ids=["one file", "many files"])
def test_the_log_on_a_full_disk(small_disk, log_file_bytes):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2**19))
    it = keeper(small_disk, log_file_bytes=log_file_bytes)
    acknowledged = append_until_full(it)
    assert acknowledged > 50
    assert [f.key.episode for f in read_log(small_disk / "replay")] == list(range(acknowledged))
    assert it.num_fragments == acknowledged
    assert it.limiter.steps == 50 * acknowledged

    # The process died there, and one that starts finds everything while the disk is still full, ...
    other = keeper(small_disk, log_file_bytes=log_file_bytes, close_orphans=False)
    assert other.limiter.steps == 50 * acknowledged
    refused = append_until_full(other, acknowledged)
    other.close()

    # ... and goes on once there is room: a worker sends again what it had no answer for.
    ballast.unlink()
    third = keeper(small_disk, log_file_bytes=log_file_bytes, close_orphans=False)
    assert third.num_fragments == refused
    third.append([episode(number) for number in range(acknowledged + 5)])
    third.close()
    assert [f.key.episode for f in read_log(small_disk / "replay")] == list(range(acknowledged + 5))


def test_the_same_process_goes_on_once_there_is_room(small_disk):
    it = keeper(small_disk)
    it.append([episode(0)])
    ballast = fill_disk(small_disk)
    acknowledged = append_until_full(it, 1)
    ballast.unlink()
    assert it.append([episode(acknowledged)]) == 50
    it.sync()
    it.close()
    assert [f.key.episode for f in read_log(small_disk / "replay")] == list(range(acknowledged + 1))


def test_an_incarnation_is_not_given_where_it_cannot_be_remembered(small_disk):
    it = keeper(small_disk)
    assert it.new_incarnation(0) == 0
    ballast = fill_disk(small_disk)
    with pytest.raises(UserError, match=r"incarnations\.json: cannot be written: No space left on device"):
        it.new_incarnation(0)
    ballast.unlink()
    assert it.new_incarnation(0) == 1


def save(run: RunFolder, step: int) -> None:
    save_checkpoint(run, step, {"btm": {"weight": torch.full((50_000,), float(step))}}, {"step": step})


def test_a_checkpoint_on_a_full_disk(small_disk):
    run = RunFolder.create(small_disk / "run", RunConfig(), "finetune")
    save(run, 10)  # 200 kB
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2**19 + 2**17))
    with pytest.raises(UserError, match=r"step-00000020: the disk is full.*earlier ones are intact.*m3pc resume"):
        save(run, 20)
    assert [entry.name for entry in run.checkpoints_path.iterdir()] == ["step-00000010"]
    assert load_checkpoint(run)[1] == {"step": 10}
    ballast.unlink()
    save(run, 20)
    assert list_checkpoints(run) == [10, 20]
    assert load_checkpoint(run)[1] == {"step": 20}


LARGEST_FILE = 6144


def fill_small_files(run: Path) -> None:
    """In a process none of whose files may grow beyond LARGEST_FILE: a full disk without a disk of one's own."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    it = keeper(run)
    print(append_until_full(it), it.status()["log_bytes"])


def test_a_file_that_cannot_grow(tmp_path):
    """The write that fails has written a part: the file must end with the batch before."""
    # In a process of its own, since the limit holds for everything a process writes, a report of these tests too.
    program = (
        f"from pathlib import Path; from {__name__} import fill_small_files; fill_small_files(Path({str(tmp_path)!r}))"
    )
    child = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert child.returncode == 0, child.stderr
    acknowledged, log_bytes = map(int, child.stdout.split())
    assert acknowledged == 1
    path = tmp_path / "replay" / "log-000000.arrow"
    assert path.stat().st_size == log_bytes < LARGEST_FILE
    assert [f.key.episode for f in read_log(path.parent)] == [0]
    assert keeper(tmp_path, close_orphans=False).dropped_tail_bytes == 0


def append_and_sync(it: ReplayKeeper, fragment: Fragment) -> None:
    it.append([fragment])
    it.sync()


@pytest.mark.parametrize("call", ["write", "fsync", "open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_every_failing_call_is_one_clear_error(tmp_path, monkeypatch, call, code):
    it = keeper(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(UserError, match=f"log-000000.arrow: cannot write the replay log: {os.strerror(code)}"):
            append_and_sync(it, make_fragment(0, 0, 5))
    again = keeper(tmp_path, close_orphans=False)
    assert again.append([make_fragment(0, 0, 5), make_fragment(1, 0, 5)]) in (5, 10)
    assert again.limiter.steps == 10
