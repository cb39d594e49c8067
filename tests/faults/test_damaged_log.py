"""The replay log after a power loss, a failing disk, and in a stranger's hands."""

import os
import random
import re
import struct
from pathlib import Path

import pyarrow as pa
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.online.replay import log_file
from m3pc_ray.online.replay.fragments import Fragment, closing_fragment, fragment_schema, to_record_batch
from m3pc_ray.online.replay.rate_limiter import RateLimiter
from m3pc_ray.online.replay.replay_keeper import ReplayKeeper
from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.trajectories.episodes import EpisodeEnd
from tests.online.factory import make_fragment

pytestmark = pytest.mark.faults


def keeper(folder: Path, **options: object) -> ReplayKeeper:
    return ReplayKeeper(folder, RateLimiter(1000, {"critic": 1.0}, 10, 5), 3, 2, **options)


def closed_episode(number: int, steps: int = 3) -> Fragment:
    return make_fragment(number, 0, steps, EpisodeEnd.TERMINATED)


def episodes(fragments) -> list[int]:
    return [fragment.key.episode for fragment in fragments]


@pytest.fixture
def written(tmp_path) -> tuple[Path, list[int]]:
    """A log that its process left without closing it, and the file's size after each of its five batches.

    Three are acknowledged, two are not.
    """
    it, sizes = keeper(tmp_path / "replay"), []
    for number in range(5):
        it.append([closed_episode(number)])
        sizes.append(it.status()["log_bytes"])
        if number < 3:
            it.sync()
    return tmp_path / "replay" / "log-000000.arrow", sizes


@pytest.mark.parametrize("record", [4, pytest.param(3, marks=pytest.mark.slow)])
def test_cut_at_every_byte_of_a_record_that_was_not_acknowledged(written, record, monkeypatch):
    path, sizes = written
    monkeypatch.setattr(os, "fsync", lambda _: None)  # thousands of them take long
    whole = path.read_bytes()
    for length in range(sizes[record - 1], sizes[record] + 1):
        path.write_bytes(whole[:length])
        kept = sum(size <= length for size in sizes)
        assert episodes(read_log(path.parent)) == list(range(kept))  # a reader changes nothing
        assert path.stat().st_size == length
        it = keeper(path.parent)
        assert it.dropped_tail_bytes == length - sizes[kept - 1]
        assert (episodes(it.read(0)), it.limiter.steps) == (list(range(kept)), 3 * kept)
        assert it.append([closed_episode(9)]) == 0  # of an incarnation that is over
        if length % 400 == 0:  # and the log goes on
            again = it.new_incarnation(1)
            assert (again, it.append([make_fragment(0, 0, 2, EpisodeEnd.TERMINATED, worker=1)])) == (0, 2)
            it.close()
            assert episodes(read_log(path.parent)) == [*range(kept), 0]
            (path.parent / "log-000001.arrow").unlink()
            (path.parent / "incarnations.json").unlink()


def test_cut_before_the_first_batch_is_as_if_nothing_was_there(written):
    path, sizes = written
    whole = path.read_bytes()
    for length in range(0, sizes[0], 13):
        path.write_bytes(whole[:length])
        it = keeper(path.parent)
        assert it.num_fragments == 0
        assert not path.exists()


def test_blocks_that_a_power_loss_left_empty_or_old(written):
    """The file has its full length, but what was not synced holds zeros or anything at all."""
    path, sizes = written
    whole, rng = path.read_bytes(), random.Random(0)
    for first in range(sizes[2], sizes[4], 64):
        for hole in (bytes(sizes[4] - first), rng.randbytes(sizes[4] - first)):
            path.write_bytes(whole[:first] + hole)
            assert episodes(keeper(path.parent).read(0)) == list(range(3 if first < sizes[3] else 4))


def test_an_unacknowledged_batch_may_be_lost_before_a_whole_one(written):
    """Blocks reach a disk in any order: the fourth batch may be torn though the fifth is whole."""
    path, sizes = written
    whole = bytearray(path.read_bytes())
    whole[sizes[2] + 500] ^= 1
    path.write_bytes(whole)
    it = keeper(path.parent)
    assert episodes(it.read(0)) == [0, 1, 2]
    assert it.dropped_tail_bytes == sizes[4] - sizes[2]


@pytest.mark.slow
def test_damage_to_what_was_acknowledged_is_never_taken_for_a_tail(written):
    """Any byte of the first two batches: the third says that they were on the disk."""
    path, sizes = written
    whole = path.read_bytes()
    for place in range(next(log_file.scan(path)).start, sizes[1]):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"log-000000\.arrow: damaged at byte \d+: steps that were acknowledged"):
            keeper(path.parent)
        assert path.stat().st_size == len(whole)


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.99])
def test_damage_in_a_closed_file_is_named(tmp_path, place):
    it = keeper(tmp_path, log_file_bytes=1)
    for number in range(3):
        it.append([closed_episode(number)])
    it.close()
    for name in ("log-000001.arrow", "log-000002.arrow"):  # one that others follow, and the newest
        path = tmp_path / name
        whole = path.read_bytes()
        first = next(log_file.scan(path))
        at = first.start + int(place * (first.end - first.start))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(UserError, match=name):
            keeper(tmp_path)
        with pytest.raises(UserError, match=name):
            list(read_log(tmp_path))
        path.write_bytes(whole)
    assert keeper(tmp_path).num_fragments == 3


@pytest.mark.parametrize("garbage", [b"x", bytes(4096), b"\xff" * 999, random.Random(1).randbytes(5000)])
@pytest.mark.parametrize("closed", [False, True])
def test_garbage_behind_the_log_is_dropped(tmp_path, garbage, closed):
    it = keeper(tmp_path)
    it.append([closed_episode(0)])
    it.append([closed_episode(1)])
    it.sync()
    if closed:
        it.close()
    with (tmp_path / "log-000000.arrow").open("ab") as file:
        file.write(garbage)
    for _ in range(2):  # the second finds what the first has made of it
        again = keeper(tmp_path)
        assert episodes(again.read(0)) == [0, 1]
        assert episodes(read_log(tmp_path)) == [0, 1]
    with pa.OSFile(str(tmp_path / "log-000000.arrow")) as source:  # pyarrow alone agrees
        assert pa.ipc.open_stream(source).read_all().num_rows == 2


SCHEMA = fragment_schema(3, 2)


def forge(folder: Path, content: bytes) -> None:
    """A log file of one message, given a right checksum whatever it holds."""
    message = bytearray(content)
    place = message.index(b"crc32:") + 6
    checksum = log_file._checksum(pa.ipc.read_message(bytes(message)))
    message[place : place + 8] = f"{checksum:08x}".encode()
    header = SCHEMA.with_metadata(log_file.FORMAT).serialize().to_pybytes()
    (folder / "log-000000.arrow").write_bytes(header + message + log_file.END_OF_STREAM)


def test_a_stranger_cannot_make_arrow_read_outside_its_buffers(tmp_path):
    content = log_file._with_checksum(to_record_batch([closed_episode(0), closed_episode(1)], SCHEMA), 0)
    forge(tmp_path, content)
    assert keeper(tmp_path).num_fragments == 2
    offsets = struct.pack("<3i", 0, 3, 6)
    assert content.count(offsets) == 3  # observations, actions, rewards
    for far in (7, 2**30, -1):
        forge(tmp_path, content.replace(offsets, struct.pack("<3i", 0, 3, far)))
        with pytest.raises(UserError, match=r"damaged at byte 0"):
            keeper(tmp_path)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("rewards", pa.array([[1.0], [1.0, 2.0]], pa.list_(pa.float32()))),
        ("worker", pa.array([0, None], pa.int32())),
        ("planner", pa.array([None, "{}"], pa.string())),
    ],
)
def test_columns_that_contradict_each_other_are_damage(tmp_path, column, values):
    good = to_record_batch([closed_episode(0), closed_episode(1)], SCHEMA)
    columns = [values if name == column else good.column(name) for name in good.schema.names]
    forge(tmp_path, log_file._with_checksum(pa.RecordBatch.from_arrays(columns, schema=good.schema), 0))
    with pytest.raises(UserError, match="damaged at byte 0"):
        keeper(tmp_path)


def test_files_of_different_runs_do_not_make_a_log(tmp_path):
    for name in ("a", "b"):
        it = keeper(tmp_path / name)
        it.append([make_fragment(0, 0, 3)])
        it.append([closing_fragment(make_fragment(0, 0, 3), EpisodeEnd.CUT)])
        it.close()
    (tmp_path / "b" / "log-000000.arrow").rename(tmp_path / "a" / "log-000001.arrow")
    with pytest.raises(UserError, match="the files of the log do not belong together: after its end comes step 0 of"):
        keeper(tmp_path / "a")


def test_what_is_no_log_is_named(tmp_path):
    with pa.OSFile(str(tmp_path / "log-000000.arrow"), "wb") as sink:
        table = pa.table({"worker": [1]})
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    with pytest.raises(UserError, match=re.escape("log-000000.arrow: no replay log: columns ")):
        keeper(tmp_path)
