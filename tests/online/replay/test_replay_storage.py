"""The replay storage against a slow one that keeps Python lists of steps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3pc_ray.online.replay.fragments import EpisodeKey, Fragment
from m3pc_ray.online.replay.replay_rows import RowFormat, best_episodes, fill_rows
from m3pc_ray.online.replay.replay_storage import ReplayStorage
from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories
from m3pc_ray.trajectories.statistics import Statistics
from tests.online.factory import make_fragment

T, TIME_LIMIT = 4, 50
FORMAT = RowFormat("average", TIME_LIMIT, T, np.full(2, -3.0, np.float32), np.full(2, 3.0, np.float32))
STATISTICS = Statistics(
    *(np.asarray(values, np.float32) for values in ([0.1, 0.2, 0.3], [1, 2, 3], [0.5], [2.0], [0.25], [0.5]))
)


def offline_episodes() -> Trajectories:
    """Episodes of 6, 2 and 5 steps: terminated, cut with an unknown end, time limit."""
    rng = np.random.default_rng(0)
    finals = rng.normal(size=(3, 3)).astype(np.float32)
    finals[1] = np.nan
    metadata = DatasetMetadata("offline", "Toy-v0", (-9.0,) * 3, (9.0,) * 3, (-3.0,) * 2, (3.0,) * 2)
    return Trajectories(
        observations=rng.normal(size=(13, 3)),
        actions=rng.uniform(-3, 3, size=(13, 2)),
        rewards=rng.normal(size=13),
        episode_starts=np.array([0, 6, 8, 13]),
        episode_ends=np.array([EpisodeEnd.TERMINATED, EpisodeEnd.CUT, EpisodeEnd.TIME_LIMIT]),
        final_observations=finals,
        metadata=metadata,
    )


def storage(capacity: int = 40, balanced_after: int = 1000) -> ReplayStorage:
    rows = fill_rows(offline_episodes(), FORMAT, capacity)
    return ReplayStorage(rows, FORMAT, STATISTICS, offline_fraction=0.5, balanced_after=balanced_after)


class SlowStorage:
    """What the replay must hold, kept step by step."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.steps: list[dict] = []  # in order of arrival
        self.episodes: dict[EpisodeKey, list[dict]] = {}
        self.windows: list[tuple[list[dict], list[dict], EpisodeEnd]] = []  # cut when their episode closed

    def append(self, fragment: Fragment) -> None:
        steps = self.episodes.setdefault(fragment.key, [])
        following = [*fragment.observations[1:], fragment.final_observation]
        for i in range(fragment.num_steps):
            last = i == fragment.num_steps - 1
            step = {
                "number": len(self.steps),
                "timestep": fragment.offset + i,
                "observations": fragment.observations[i],
                "next_observations": following[i],
                "actions": fragment.actions[i] / 3.0,
                "rewards": fragment.rewards[i],
                "terminated": float(last and fragment.end == EpisodeEnd.TERMINATED),
            }
            self.steps.append(step)
            steps.append(step)
        if fragment.end is not None:
            episode = self.episodes.pop(fragment.key)
            held = [step for step in episode if step["number"] >= len(self.steps) - self.capacity]
            for start in range(max(1, len(held) - T + 1)):
                if window := held[start : start + T]:
                    self.windows.append((window, episode, fragment.end))

    def transitions(self) -> list[dict]:
        return self.steps[-self.capacity :]

    def segments(self) -> set[tuple]:
        """(first number of every observation, known returns or None) of every available segment."""
        oldest = len(self.steps) - self.capacity
        found = set()
        for window, episode, end in self.windows:
            if window[0]["number"] < oldest:
                continue
            returns = []
            for step in window:
                togo = sum(float(s["rewards"]) for s in episode if s["timestep"] >= step["timestep"])
                returns.append(togo / (TIME_LIMIT - step["timestep"]))
            known = None if end == EpisodeEnd.CUT else tuple(np.round(returns, 4))
            found.add((tuple(float(step["observations"][0]) for step in window), known))
        return found


def all_online_segments(fast: ReplayStorage) -> set[tuple]:
    """The same, of every segment that can be drawn."""
    fast._drop_old_segments()
    numbers = np.arange(fast._first_segment, fast._next_segment)
    numbers = numbers[~fast._is_gone(numbers)]
    if not len(numbers):
        return set()
    tokens, exists = fast.gather(*fast._online_rows(numbers))
    observations = tokens["states"] * torch.tensor([1.0, 2.0, 3.0]) + torch.tensor([0.1, 0.2, 0.3])
    returns = tokens["returns"].squeeze(-1) * 2.0 + 0.5
    found = set()
    for row in range(len(numbers)):
        real = torch.ones(T, dtype=torch.bool) if exists is None else exists[row, 0]
        known = real if exists is None else exists[row, 1]
        assert known.sum() in (0, real.sum())
        values = tuple(np.round(returns[row][real].numpy().astype(float), 4)) if known.any() else None
        found.add((tuple(np.round(observations[row, real, 0].numpy().astype(float), 4)), values))
    return found


def rounded(segments: set[tuple]) -> set[tuple]:
    return {(tuple(np.round(observations, 4)), returns) for observations, returns in segments}


def assert_close_sets(found: set[tuple], expected: set[tuple]) -> None:
    """Equal up to rounding in the last digit kept."""
    assert len(found) == len(expected)
    for one, other in zip(sorted(found, key=str_key), sorted(expected, key=str_key), strict=True):
        np.testing.assert_allclose(one[0], other[0], atol=2e-4)
        assert (one[1] is None) == (other[1] is None)
        if one[1] is not None:
            np.testing.assert_allclose(one[1], other[1], atol=2e-4)


def str_key(segment: tuple) -> tuple:
    return (len(segment[0]), round(segment[0][0], 2), segment[0])


@settings(max_examples=30, deadline=None)
@given(
    capacity=st.integers(3, 40),
    script=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 6), st.sampled_from([None, None, 0, 1, 2])), max_size=25
    ),
)
def test_storage_holds_what_a_slow_one_holds(capacity, script):
    """Three workers send interleaved fragments; episodes end in every way, also by a fragment of no steps."""
    fast, slow = storage(capacity), SlowStorage(capacity)
    episode, offset = [0, 0, 0], [0, 0, 0]
    for worker, steps, end in script:
        steps = min(steps, capacity)
        if steps == 0 and (end is None or offset[worker] == 0):
            continue
        kind = None if end is None else EpisodeEnd(end)
        fragment = make_fragment(episode[worker], offset[worker], steps, kind, worker=worker, low=-3.0, high=3.0)
        fast.append(fragment)
        slow.append(fragment)
        offset[worker] += steps
        if end is not None:
            episode[worker], offset[worker] = episode[worker] + 1, 0
    assert fast.online_steps == len(slow.transitions())
    rows = 13 + np.arange(max(0, fast.arrived - capacity), fast.arrived) % capacity
    for row, step in zip(rows, slow.transitions(), strict=True):
        for name in ("observations", "next_observations", "actions", "rewards", "terminated"):
            np.testing.assert_allclose(fast.column(name)[row].numpy(), step[name], rtol=1e-5, atol=1e-6)
    assert_close_sets(all_online_segments(fast), rounded(slow.segments()))


def test_segments_are_drawn_uniformly_from_offline_and_closed_online_episodes():
    it = storage()
    it.append(make_fragment(0, 0, 6, low=-3, high=3))
    rows, _ = it.segment_rows(np.random.default_rng(0), 2000)
    assert rows.max() < 13  # the episode is open
    it.append(make_fragment(1, 0, 5, EpisodeEnd.TERMINATED, worker=1))
    it.append(make_fragment(0, 6, 2, EpisodeEnd.TIME_LIMIT))
    rows, valid = it.segment_rows(np.random.default_rng(0), 30_000)
    firsts, counts = np.unique(rows[:, 0], return_counts=True)
    # Offline: 3 + 1 (padded) + 2 starts. Online: the 5 steps at rows 19.., and 8 steps at rows 13..18, 24, 25.
    assert firsts.tolist() == [0, 1, 2, 6, 8, 9, 13, 14, 15, 16, 17, 19, 20]
    np.testing.assert_allclose(counts / counts.sum(), 1 / 13, atol=0.01)
    assert rows[rows[:, 0] == 17][0].tolist() == [17, 18, 24, 25]
    assert rows[rows[:, 0] == 6][0].tolist() == [6, 7, 7, 7]
    assert valid[rows[:, 0] == 6][0].tolist() == [True, True, False, False]


def test_returns_of_a_cut_episode_are_hidden_and_the_rest_is_not():
    it = storage()
    it.append(make_fragment(0, 0, 4, EpisodeEnd.CUT))
    _, exists = it.gather(np.array([[13, 14, 15, 16], [0, 1, 2, 3]]), np.ones((2, T), dtype=bool))
    assert exists is not None
    assert exists[0].tolist() == [[True] * T, [False] * T, [True] * T, [True] * T]
    assert exists[1].all()


def test_transitions_come_half_from_the_data_set_once_there_are_enough_online():
    it = storage(balanced_after=20)
    rng = np.random.default_rng(0)
    online = set()
    for episode in range(2):
        fragment = make_fragment(episode, 0, 10, EpisodeEnd.TIME_LIMIT)
        online |= {float(value) for value in fragment.rewards}
        it.append(fragment)
        shares = []
        for batch in it.sample_transitions(rng, 100, 10):
            assert batch["observations"].shape == (10, 3)
            shares.append(np.mean([float(reward) in online for reward in batch["rewards"]]))
        if episode == 0:  # 10 of 22 transitions: of the 13 offline ones, one has an unknown successor
            assert np.mean(shares) == pytest.approx(10 / 22, abs=0.05)
            assert len(set(shares)) > 1
        else:
            assert set(shares) == {0.5}


def test_the_unknown_successor_of_a_cut_file_is_never_learnt_from():
    it = storage()
    drawn = it.sample_transitions(np.random.default_rng(0), 1, 5000)[0]
    unknown = offline_episodes().rewards[7]
    assert not (drawn["rewards"] == float(unknown)).any()
    assert len(drawn["rewards"].unique()) == 12
    assert torch.isfinite(drawn["next_observations"]).all()


def test_best_episodes_are_those_of_the_highest_return():
    data = offline_episodes()
    best = best_episodes(data, 2)
    assert sorted(best.returns) == sorted(data.returns)[1:]
    assert best_episodes(data, 3) is data
