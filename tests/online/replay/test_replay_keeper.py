"""The keeper: each fragment once and in order, through restarts of the run, of this role alone and of a worker."""

import json
import logging
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.fragments import EpisodeKey, Fragment
from m3pc_ray.online.replay.rate_limiter import RateLimiter
from m3pc_ray.online.replay.replay_keeper import ReplayKeeper
from m3pc_ray.online.replay.replay_log import log_files, read_log
from m3pc_ray.trajectories.episodes import EpisodeEnd
from tests.online.factory import make_fragment


def keeper(folder: Path, total: int = 1000, **options: object) -> ReplayKeeper:
    return ReplayKeeper(folder, RateLimiter(total, {"btm": 0.2, "critic": 2.0}, 10, 5), 3, 2, **options)


def of_incarnation(incarnation: int, fragment: Fragment) -> Fragment:
    key = EpisodeKey(fragment.key.worker, incarnation, fragment.key.episode)
    return replace(fragment, key=key)


def test_fragments_come_once_and_in_order(tmp_path, fragments):
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


def test_duplicates_are_dropped_and_gaps_refused(tmp_path, fragments):
    it = keeper(tmp_path)
    it.append(fragments[:2])
    assert it.append([fragments[0]]) == 0
    assert it.append([fragments[1]]) == 0  # of a closed episode
    it.append(fragments[2:])
    assert it.append(fragments) == 0
    assert it.append([make_fragment(9, 0, 2), make_fragment(9, 0, 2)]) == 2  # twice in one call
    assert (it.duplicates, it.num_fragments, it.limiter.steps) == (7, 5, 11)
    with pytest.raises(ValueError, match="starts at step 3, the log ends at step 0"):
        it.append([make_fragment(7, 3, 2)])
    it.append([make_fragment(7, 0, 4)])
    with pytest.raises(ValueError, match="starts at step 2, the log ends at step 4"):
        it.append([make_fragment(7, 2, 4)])


def test_what_is_refused_leaves_no_trace(tmp_path):
    it = keeper(tmp_path, total=5)
    with pytest.raises(ValueError, match="0 \\+ 6 steps exceed the 5"):
        it.append([make_fragment(0, 0, 6)])
    with pytest.raises(ValueError, match="starts at step 1"):
        it.append([make_fragment(0, 0, 2), make_fragment(1, 1, 2)])
    assert (it.num_fragments, it.limiter.steps, it.worker_steps(0)) == (0, 0, 0)
    assert it.append([make_fragment(0, 0, 5)]) == 5
    it.close()
    with pytest.raises(UserError, match="the log has 5 steps, but online.steps is 4"):
        keeper(tmp_path, total=4)


def test_a_run_that_starts_closes_what_nobody_goes_on_with(tmp_path, fragments):
    first = keeper(tmp_path)
    assert first.new_incarnation(0) == 0
    first.append([fragments[0]])
    first.append([fragments[1]])
    size = first.status()["log_bytes"]
    first.append([fragments[2]])
    with (tmp_path / "log-000000.arrow").open("r+b") as file:  # the machine died while the third was written
        file.truncate(size + 100)

    second = keeper(tmp_path)
    assert second.dropped_tail_bytes == 100
    assert second.limiter.steps == 6
    assert [(f.key.episode, f.offset, f.num_steps, f.end) for f in second.read(0)] == [
        (0, 0, 4, None),
        (1, 0, 2, EpisodeEnd.TERMINATED),
        (0, 4, 0, EpisodeEnd.CUT),
    ]
    assert second.append([fragments[2]]) == 0  # late, of an incarnation that is closed
    assert second.append([make_fragment(2, 0, 3)]) == 0
    assert second.duplicates == 2
    assert second.new_incarnation(0) == 1
    assert second.new_incarnation(5) == 0
    second.append([of_incarnation(1, make_fragment(2, 0, 3))])
    second.close()
    assert len(log_files(tmp_path)) == 2
    third = keeper(tmp_path)
    assert third.limiter.steps == 9
    assert third.num_fragments == 5


def test_workers_go_on_where_only_this_role_was_restarted(tmp_path, fragments):
    first = keeper(tmp_path)
    assert [first.new_incarnation(worker) for worker in (0, 1)] == [0, 0]
    first.append([fragments[0], make_fragment(0, 0, 3, worker=1)])
    first.sync()  # acknowledged
    first.append([fragments[1]])  # not acknowledged, though it reached the log

    second = keeper(tmp_path, close_orphans=False)
    assert second.status()["open_episodes"] == 2
    # The worker sends again what nobody has answered, and then goes on.
    assert second.append([fragments[1]]) == 0
    assert second.append([fragments[2]]) == 3
    assert second.append([fragments[3]]) == 0
    assert (second.duplicates, second.limiter.steps) == (1, 12)
    assert second.append([make_fragment(0, 3, 4, worker=1)]) == 4
    ends = [f.end for f in second.read(0) if f.key.episode == 0 and f.key.worker == 0]
    assert ends == [None, None, EpisodeEnd.CUT]
    assert [second.worker_steps(worker) for worker in (0, 1, 2)] == [9, 7, 0]


def test_a_worker_that_restarts_gets_a_number_and_its_open_episodes_are_closed(tmp_path, fragments):
    it = keeper(tmp_path)
    assert it.new_incarnation(0) == 0
    it.append([fragments[0], make_fragment(5, 0, 2), make_fragment(0, 0, 3, worker=1)])
    assert it.new_incarnation(0) == 1
    # On the disk already: another process sees it.
    closed = [(f.key, f.offset, f.num_steps) for f in read_log(tmp_path) if f.end is EpisodeEnd.CUT]
    assert closed == [(EpisodeKey(0, 0, 0), 4, 0), (EpisodeKey(0, 0, 5), 2, 0)]
    assert it.append([fragments[2]]) == 0  # it was under way when the worker died
    assert it.append([make_fragment(6, 0, 4)]) == 0  # of an episode that the log never saw
    assert it.duplicates == 2
    assert it.append([of_incarnation(1, fragments[0])]) == 4
    assert it.append([make_fragment(0, 3, 3, worker=1)]) == 3  # the other worker goes on
    assert it.worker_steps(0) == 10
    again = keeper(tmp_path, close_orphans=False)
    assert again.append([make_fragment(6, 0, 4)]) == 0  # still
    assert again.append([of_incarnation(1, fragments[2])]) == 3
    assert again.worker_steps(0) == 13


def test_an_incarnation_is_never_given_twice_even_if_it_wrote_nothing(tmp_path):
    for close_orphans, expected in ((True, 0), (False, 1), (True, 2), (False, 3)):
        it = keeper(tmp_path, close_orphans=close_orphans)
        assert it.new_incarnation(3) == expected
        it.close()
    assert log_files(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"0": -1}', '{"0": 1.5}', '{"a": 1}', "[" * 100_000, '{"0": ' + "9" * 5000 + "}", " " * 2**21],
    ids=lambda content: content[:10],
)
def test_damaged_incarnations_are_named(tmp_path, content):
    (tmp_path / "incarnations.json").write_text(content)
    with pytest.raises(UserError, match=r"incarnations\.json: not the newest incarnation of every worker"):
        keeper(tmp_path)


def test_waiting_fractions_go_on_after_a_restart(tmp_path):
    now = [0.0]

    def timed() -> ReplayKeeper:
        limiter = RateLimiter(100, {"critic": 1.0}, 10, 5, clock=lambda: now[0])
        return ReplayKeeper(tmp_path, limiter, 3, 2)

    first = timed()
    first.exchange(0, {"critic": 0})  # nothing is permitted before ten steps
    now[0] = 30.0
    first.append([make_fragment(0, 0, 10)])
    first.exchange(0, {"critic": 0})
    now[0] = 40.0
    first.close()
    written = json.loads((tmp_path / "limiter.json").read_text())
    assert written["waiting_seconds"] == {"steps": 0.0, "updates": 30.0}
    assert (written["steps"], written["elapsed_seconds"]) == (10, 40.0)

    now[0] = 1000.0  # the time between does not count
    second = timed()
    assert second.limiter.waiting_fractions() == {"steps": 0.0, "updates": 0.75}
    assert second.limiter.updates == {"critic": 0}  # counts are the learner's to tell
    second.exchange(0, {"critic": 10})
    second.limiter.note_step_wait(True)
    now[0] = 1060.0
    assert second.limiter.waiting_fractions() == pytest.approx({"steps": 0.6, "updates": 0.3})


@pytest.mark.parametrize(
    "content",
    ["", "7", "{}", '{"elapsed_seconds": 1, "waiting_seconds": {"steps": 2, "updates": 0}}', "[" * 100_000]
    + ['{"elapsed_seconds": 1e999, "waiting_seconds": {"steps": 0, "updates": 0}}'],
    ids=lambda content: content[:30],
)
def test_damaged_waiting_times_cost_a_warning(tmp_path, content, caplog):
    (tmp_path / "limiter.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        it = keeper(tmp_path)
    assert "limiter.json: waiting fractions start anew" in caplog.text
    assert it.limiter.waiting_fractions() == {"steps": 0.0, "updates": 0.0}


@pytest.mark.slow
def test_memory_after_a_million_steps_is_small(tmp_path):
    """20,000 episodes of 50 steps, four at a time, all of which the learner has."""
    template = make_fragment(0, 0, 50, EpisodeEnd.TERMINATED, observation_dim=3, action_dim=1)
    it = ReplayKeeper(tmp_path, RateLimiter(10**6, {}, 0, 1), 3, 1)
    tracemalloc.start()
    sizes = []
    for episode in range(0, 20_000, 4):
        it.append([replace(template, key=EpisodeKey(0, 0, episode + environment)) for environment in range(4)])
        it.exchange(it.num_fragments, {})
        if episode in (1_000, 19_996):
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert it.limiter.steps == 10**6
    assert sizes[1] - sizes[0] < 300_000  # the index: 16 bytes for each of 4750 batches
    it.close()

    tracemalloc.start()
    again = ReplayKeeper(tmp_path, RateLimiter(10**6, {}, 0, 1), 3, 1)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert again.limiter.steps == 10**6
    assert used < 500_000
