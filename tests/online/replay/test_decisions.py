"""Records of decisions in the log: exact, optional, and absent from logs of earlier versions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from m3pc_ray.online.replay.decisions import DecisionRecords
from m3pc_ray.online.replay.fragments import (
    Fragment,
    closing_fragment,
    fragment_schema,
    from_record_batch,
    to_record_batch,
)
from m3pc_ray.online.replay.log_file import LogFileWriter
from m3pc_ray.online.replay.rate_limiter import RateLimiter
from m3pc_ray.online.replay.replay_keeper import ReplayKeeper
from m3pc_ray.online.replay.replay_log import ReplayLog, log_files, read_log
from m3pc_ray.trajectories.episodes import EpisodeEnd
from tests.online.factory import make_fragment


def make_decisions(steps: int, seed: int, candidates: int = 4, context_length: int = 2) -> DecisionRecords:
    rng = np.random.default_rng(seed)
    return DecisionRecords(
        observations=rng.normal(size=(steps, context_length + 1, 3)).astype(np.float32),
        actions=rng.normal(size=(steps, context_length, 2)).astype(np.float32),
        timesteps=rng.integers(0, 1000, steps),
        keys=rng.integers(0, 2**64, (steps, 3), dtype=np.uint64),
        utilities=rng.normal(size=(steps, candidates)).astype(np.float32),
        chosen=rng.integers(-1, 4, steps),
        batch_rows=rng.integers(1, 9, steps),
        batch_row=rng.integers(0, 9, steps),
        weight_version=rng.integers(0, 1000, steps),
        weights_fingerprint=rng.integers(0, 2**64, steps, dtype=np.uint64),
        precision=np.array(["float32", "bfloat16"])[rng.integers(0, 2, steps)],
        device=np.array(["cpu", "cuda:1"])[rng.integers(0, 2, steps)],
        threads=rng.integers(1, 9, steps),
    )


def assert_same(found: DecisionRecords | None, expected: DecisionRecords | None) -> None:
    if expected is None:
        assert found is None
        return
    assert found is not None
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
        assert getattr(found, name).dtype.kind == value.dtype.kind, name


@pytest.fixture
def fragments() -> list[Fragment]:
    """Some with records, some without, one of no steps."""
    return [
        replace(make_fragment(0, 0, 4), decisions=make_decisions(4, 1)),
        make_fragment(1, 0, 2, EpisodeEnd.TERMINATED),
        replace(make_fragment(0, 4, 3), decisions=make_decisions(3, 2)),
        closing_fragment(make_fragment(0, 4, 3), EpisodeEnd.CUT),
    ]


def test_round_trip_in_whole_and_in_slices(fragments):
    batch = to_record_batch(fragments, fragment_schema(3, 2))
    for start in range(4):
        found = from_record_batch(batch.slice(start), decisions=True)
        for fragment, expected in zip(found, fragments[start:], strict=True):
            assert_same(fragment.decisions, expected.decisions)
            np.testing.assert_array_equal(fragment.observations, expected.observations)
    assert all(fragment.decisions is None for fragment in from_record_batch(batch))


@pytest.mark.parametrize(("candidates", "context_length"), [(0, 2), (4, 0), (0, 0)])
def test_round_trip_without_candidates_or_context(candidates, context_length):
    decisions = make_decisions(3, 5, candidates, context_length)
    batch = to_record_batch([replace(make_fragment(0, 0, 3), decisions=decisions)], fragment_schema(3, 2))
    (found,) = from_record_batch(batch, decisions=True)
    assert_same(found.decisions, decisions)


def test_records_must_be_as_many_as_steps():
    with pytest.raises(ValueError, match="3 decisions recorded for 4 steps"):
        replace(make_fragment(0, 0, 4), decisions=make_decisions(3, 1))


def write_as_an_earlier_version(path: Path, fragments: list[Fragment]) -> None:
    """A log file whose schema has no column for decisions."""
    schema = fragment_schema(3, 2)
    batch = to_record_batch(fragments, schema).drop_columns(["decisions"])
    writer = LogFileWriter(path, batch.schema)
    writer.append(batch)
    writer.close()


def test_logs_without_the_column_are_read_and_continued(tmp_path, fragments):
    write_as_an_earlier_version(tmp_path / "log-000000.arrow", fragments[1:2])
    (old,) = read_log(tmp_path, decisions=True)
    assert old.decisions is None
    np.testing.assert_array_equal(old.observations, fragments[1].observations)
    keeper = ReplayKeeper(tmp_path, RateLimiter(1000, {"btm": 0.2, "critic": 2.0}, 10, 5), 3, 2, close_orphans=False)
    assert keeper.limiter.steps == 2
    keeper.append([fragments[0]])
    keeper.close()
    both = list(read_log(tmp_path, decisions=True))
    assert both[0].decisions is None
    assert_same(both[1].decisions, fragments[0].decisions)


def test_the_learner_is_not_sent_what_it_does_not_need(tmp_path, fragments):
    keeper = ReplayKeeper(tmp_path, RateLimiter(1000, {"btm": 0.2, "critic": 2.0}, 10, 5), 3, 2)
    keeper.append(fragments[:2])
    assert all(fragment.decisions is None for fragment in keeper.read(0))
    keeper.close()
    logged = list(read_log(tmp_path, decisions=True))
    assert_same(logged[0].decisions, fragments[0].decisions)


def test_pyarrow_alone_reads_them(tmp_path, fragments):
    log = ReplayLog(tmp_path, 3, 2)
    list(log.restore())
    log.append(fragments)
    log.close()
    with pa.OSFile(str(log_files(tmp_path)[0])) as source:
        column = pa.ipc.open_stream(source).read_all()["decisions"].to_pylist()
    assert [None if rows is None else len(rows) for rows in column] == [4, None, 3, None]
    assert fragments[0].decisions is not None
    np.testing.assert_array_equal(column[0][2]["utilities"], fragments[0].decisions.utilities[2])
