from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from m3pc_ray.online.fragments import Fragment, closing_fragment, fragment_schema, from_record_batch, to_record_batch
from m3pc_ray.online.rate_limiter import RateLimiter
from m3pc_ray.online.replay_keeper import ReplayKeeper
from m3pc_ray.online.replay_log import ReplayLogWriter, drop_half_written_tail, log_files, read_log
from m3pc_ray.trajectories.episodes import EpisodeEnd
from tests.online.factory import make_fragment


def assert_same(found: Fragment, expected: Fragment) -> None:
    for name, value in vars(expected).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
            assert getattr(found, name).dtype == np.float32
        else:
            assert getattr(found, name) == value, name


def keeper(folder: Path, total: int = 1000) -> ReplayKeeper:
    return ReplayKeeper(folder, RateLimiter(total, {"btm": 0.2, "critic": 2.0}, 10, 5), 3, 2)


@pytest.fixture
def fragments() -> list[Fragment]:
    return [
        make_fragment(0, 0, 4),
        make_fragment(1, 0, 2, EpisodeEnd.TERMINATED),
        make_fragment(0, 4, 3),
        closing_fragment(make_fragment(0, 4, 3), EpisodeEnd.CUT),
    ]


def test_record_batch_round_trip_with_a_fragment_of_no_steps(fragments):
    schema = fragment_schema(3, 2)
    batch = to_record_batch(fragments, schema)
    for found, expected in zip(from_record_batch(batch), fragments, strict=True):
        assert_same(found, expected)
    # A slice does not start at the arrays' beginning.
    for found, expected in zip(from_record_batch(batch.slice(2)), fragments[2:], strict=True):
        assert_same(found, expected)


def test_pyarrow_alone_reads_the_log(tmp_path, fragments):
    writer = ReplayLogWriter(tmp_path, 3, 2)
    writer.append(fragments)
    writer.close()
    with pa.OSFile(str(writer.path)) as source:
        table = pa.ipc.open_stream(source).read_all()
    assert table["offset"].to_pylist() == [0, 0, 4, 7]
    assert table["end"].to_pylist() == [-1, 0, -1, 2]
    np.testing.assert_array_equal(table["rewards"][0].values.to_numpy(), fragments[0].rewards)


def test_every_length_of_a_half_written_tail_is_dropped(tmp_path, fragments):
    writer = ReplayLogWriter(tmp_path / "whole", 3, 2)
    sizes = []
    for fragment in fragments[:3]:
        writer.append([fragment])
        sizes.append(writer.path.stat().st_size)
    whole = writer.path.read_bytes()
    for length in range(0, len(whole) + 1, 7):
        folder = tmp_path / str(length)
        folder.mkdir()
        path = folder / "log-000000.arrow"
        path.write_bytes(whole[:length])
        kept = sum(size <= length for size in sizes)
        assert drop_half_written_tail(path) == length - (sizes[kept - 1] if kept else 0)
        assert path.exists() == (kept > 0)
        assert [fragment.offset for fragment in read_log(folder)] == [0, 0, 4][:kept]


def test_keeper_hands_out_fragments_once_and_in_order(tmp_path, fragments):
    it = keeper(tmp_path)
    assert it.append(fragments[:2]) == 6
    found, permitted = it.exchange(0, {"btm": 0, "critic": 0})
    assert [f.key.episode for f in found] == [0, 1]
    assert permitted == {"btm": 0, "critic": 0}  # six steps of ten
    it.append(fragments[2:])
    found, _ = it.exchange(2, {"btm": 0, "critic": 0})
    assert [(f.key.episode, f.offset, f.num_steps) for f in found] == [(0, 4, 3), (0, 7, 0)]
    assert it.status()["fragments_in_memory"] == 2  # the first two are the learner's now ...
    assert len(it.read(0)) == 4  # ... but a learner that starts anew gets them from the log
    assert [f.offset for f in it.read(1, limit=2)] == [0, 4]


def test_keeper_drops_duplicates_and_refuses_gaps(tmp_path, fragments):
    it = keeper(tmp_path)
    it.append(fragments[:2])
    assert it.append([fragments[0]]) == 0
    assert it.append([fragments[1]]) == 0  # of a closed episode
    it.append(fragments[2:])
    assert it.append(fragments) == 0
    assert (it.duplicates, it.num_fragments, it.limiter.steps) == (6, 4, 9)
    with pytest.raises(ValueError, match="starts at step 3, the log ends at step 0"):
        it.append([make_fragment(7, 3, 2)])
    it.append([make_fragment(7, 0, 4)])
    with pytest.raises(ValueError, match="starts at step 2, the log ends at step 4"):
        it.append([make_fragment(7, 2, 4)])


def test_keeper_rebuilds_from_a_log_with_a_half_written_tail(tmp_path, fragments):
    first = keeper(tmp_path)
    first.append([fragments[0]])
    first.append([fragments[1]])
    size = first._writer.path.stat().st_size
    first.append([fragments[2]])
    with first._writer.path.open("r+b") as file:  # the machine died while the third was written
        file.truncate(size + 100)

    second = keeper(tmp_path)
    assert second.dropped_tail_bytes == 100
    assert second.limiter.steps == 6
    # Episode 0 was open and nobody goes on with it: its end is in the log now.
    assert [(f.key.episode, f.offset, f.num_steps, f.end) for f in second.read(0)] == [
        (0, 0, 4, None),
        (1, 0, 2, EpisodeEnd.TERMINATED),
        (0, 4, 0, EpisodeEnd.CUT),
    ]
    assert second.new_incarnation(0) == 1
    assert second.new_incarnation(5) == 0
    assert second.append([fragments[2]]) == 0  # late, for an episode that is closed
    second.append([make_fragment(2, 0, 3)])
    second.close()
    assert len(log_files(tmp_path)) == 2
    third = keeper(tmp_path)
    assert third.limiter.steps == 9
    assert third.num_fragments == 5
