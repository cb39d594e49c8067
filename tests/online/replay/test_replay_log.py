"""The log on disk: its bytes, files that rotate, reading from anywhere, and what is on the disk when."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.online.replay import replay_log
from m3pc_ray.online.replay.fragments import Fragment, fragment_schema, from_record_batch, to_record_batch
from m3pc_ray.online.replay.replay_log import ReplayLog, log_files, read_log
from tests.online.factory import make_fragment


def assert_same(found: Fragment, expected: Fragment) -> None:
    for name, value in vars(expected).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
            assert getattr(found, name).dtype == np.float32
        else:
            assert getattr(found, name) == value, name


def opened(folder: Path, **options: int) -> ReplayLog:
    log = ReplayLog(folder, 3, 2, **options)
    for _ in log.restore():
        pass
    return log


def test_record_batch_round_trip_with_a_fragment_of_no_steps(fragments):
    schema = fragment_schema(3, 2)
    batch = to_record_batch(fragments, schema)
    for found, expected in zip(from_record_batch(batch), fragments, strict=True):
        assert_same(found, expected)
    # A slice does not start at the arrays' beginning.
    for found, expected in zip(from_record_batch(batch.slice(2)), fragments[2:], strict=True):
        assert_same(found, expected)


def test_pyarrow_alone_reads_the_log(tmp_path, fragments):
    """Without any code of ours, and without a word about checksums."""
    log = opened(tmp_path)
    log.append(fragments[:2])
    log.append(fragments[2:])
    log.close()
    with pa.OSFile(str(tmp_path / "log-000000.arrow")) as source:
        table = pa.ipc.open_stream(source).read_all()
    assert table["offset"].to_pylist() == [0, 0, 4, 7]
    assert table["end"].to_pylist() == [-1, 0, -1, 2]
    np.testing.assert_array_equal(table["rewards"][0].values.to_numpy(), fragments[0].rewards)
    assert table["observations"].chunk(0).flatten().flatten().to_numpy().tolist() == pytest.approx(
        np.concatenate([fragments[0].observations, fragments[1].observations]).reshape(-1).tolist()
    )


def test_files_rotate_and_reading_starts_anywhere(tmp_path):
    log = opened(tmp_path, file_bytes=6000)
    written = [make_fragment(episode, 0, 3) for episode in range(23)]
    for first in range(0, 23, 2):
        log.append(written[first : first + 2])
    assert log.num_files > 2
    sizes = [path.stat().st_size for path in log_files(tmp_path)]
    assert sum(sizes) - 8 * (len(sizes) - 1) == log.num_bytes  # an end of stream after every file but the open one
    assert max(sizes) < 6000 + 2500
    for again in (log, opened(tmp_path, file_bytes=6000)):
        for start in range(25):
            for limit in (1, 2, 5, 100):
                found = again.read(start, limit)
                assert [f.key.episode for f in found] == list(range(start, min(start + limit, 23)))
                for fragment in found:
                    assert_same(fragment, written[fragment.key.episode])
    assert [f.key.episode for f in read_log(tmp_path)] == list(range(23))


def test_reading_costs_what_it_returns(tmp_path, monkeypatch):
    log = opened(tmp_path, file_bytes=20_000)
    for episode in range(100):
        log.append([make_fragment(episode, 0, 3)])
    read: list[int] = []
    monkeypatch.setattr(
        replay_log, "read_batch", lambda *where: (read.append(where[2]), log_file_read_batch(*where))[1]
    )
    assert [f.key.episode for f in log.read(70, 4)] == [70, 71, 72, 73]
    assert len(read) == 4


log_file_read_batch = replay_log.read_batch


def test_a_new_file_a_rotated_one_and_the_folder_itself_are_on_the_disk_before_anything_is_acknowledged(
    tmp_path, monkeypatch
):
    """Every fsync in order, by what it was of; a power loss may take whatever has none."""
    synced: list[str] = []
    fsync = os.fsync

    def recording(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    log = opened(tmp_path / "run" / "replay", file_bytes=1)
    assert synced == ["run"]  # RUN's entry of the folder
    log.append([make_fragment(0, 0, 3)])
    log.sync()
    assert synced == ["run", "replay", "log-000000.arrow"]
    log.append([make_fragment(1, 0, 3)])  # the first file is full
    assert synced[3:] == ["log-000000.arrow", "replay"]
    log.sync()
    assert synced[5:] == ["log-000001.arrow"]


def test_a_sync_that_failed_is_never_followed_by_one_that_seems_to_succeed(tmp_path, monkeypatch):
    log = opened(tmp_path)
    log.append([make_fragment(0, 0, 3)])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(UserError, match=r"log-000000\.arrow: cannot write the replay log: Input/output error"):
            log.sync()
    for attempt in (log.sync, log.close, lambda: log.append([make_fragment(1, 0, 3)])):
        with pytest.raises(UserError, match="Input/output error"):
            attempt()


def test_a_missing_file_is_named(tmp_path):
    log = opened(tmp_path, file_bytes=1)
    for episode in range(3):
        log.append([make_fragment(episode, 0, 3)])
    (tmp_path / "log-000001.arrow").unlink()
    with pytest.raises(UserError, match=r"log-000001\.arrow is missing, log-000002\.arrow is there"):
        opened(tmp_path)


def test_a_log_of_another_run_is_refused(tmp_path):
    log = ReplayLog(tmp_path, 4, 2)
    log.append([make_fragment(0, 0, 3, observation_dim=4)])
    log.close()
    with pytest.raises(UserError, match="observations of length 4, but the run's are of length 3"):
        opened(tmp_path)


def test_reading_a_log_that_grows_meanwhile_finds_no_damage(tmp_path, monkeypatch):
    """What was half-written when the reader came to it is whole, and followed by more, when its end is looked at."""
    log = opened(tmp_path)
    sizes = []
    for episode in range(3):
        log.append([make_fragment(episode, 0, 3)])
        log.sync()
        sizes.append(log.num_bytes)
    path = tmp_path / "log-000000.arrow"
    whole = path.read_bytes()
    path.write_bytes(whole[: sizes[0] + 100])
    scan = replay_log.scan

    def scan_while_the_writer_goes_on(path):
        yield from scan(path)
        path.write_bytes(whole)

    monkeypatch.setattr(replay_log, "scan", scan_while_the_writer_goes_on)
    assert [fragment.key.episode for fragment in read_log(tmp_path)] == [0]
    assert [fragment.key.episode for fragment in read_log(tmp_path)] == [0, 1, 2]
