"""Segments, for any lengths of episodes: none crosses an episode, and every start position counts alike."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from m3pc_ray.trajectories.segments import SegmentIndex
from tests.trajectories.factory import make_trajectories

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=12)
SEGMENT_LENGTH = st.integers(1, 10)


@given(lengths=LENGTHS, segment_length=SEGMENT_LENGTH, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_a_sampled_segment_is_consecutive_steps_of_one_episode(lengths, segment_length, seed):
    data = make_trajectories(lengths)
    rows, valid = SegmentIndex.of(data, segment_length).sample(np.random.default_rng(seed), 64)
    assert rows.shape == valid.shape == (64, segment_length)
    episode_of_row = np.repeat(np.arange(len(lengths)), lengths)
    episodes = episode_of_row[rows]  # raises for a row that does not exist
    assert (episodes == episodes[:, :1]).all()
    length = np.asarray(lengths)[episodes[:, 0]]
    np.testing.assert_array_equal(valid.sum(axis=1), np.minimum(length, segment_length))
    assert (np.diff(valid.astype(int), axis=1) <= 0).all()  # padding only at the end
    steps = np.diff(rows, axis=1)
    np.testing.assert_array_equal(steps, valid[:, 1:].astype(int))  # real rows advance, padding repeats the last
    short = length < segment_length
    np.testing.assert_array_equal(data.timesteps()[rows[short, 0]], 0)


@given(lengths=LENGTHS, segment_length=SEGMENT_LENGTH)
@settings(max_examples=100, deadline=None)
def test_every_start_position_is_one_segment(lengths, segment_length):
    data = make_trajectories(lengths)
    index = SegmentIndex.of(data, segment_length)
    rows, _ = index.all_segments()
    expected = [
        start + offset
        for start, length in zip(data.episode_starts[:-1], lengths, strict=True)
        for offset in range(max(length - segment_length + 1, 1))
    ]
    assert rows[:, 0].tolist() == expected
    assert index.num_segments == len(expected)


def test_start_positions_are_drawn_uniformly():
    index = SegmentIndex.of(make_trajectories([12, 3, 8]), 8)  # 5 + 1 + 1 segments
    rows, _ = index.sample(np.random.default_rng(0), 70_000)
    starts, counts = np.unique(rows[:, 0], return_counts=True)
    assert starts.tolist() == [0, 1, 2, 3, 4, 12, 15]
    np.testing.assert_allclose(counts, 10_000, atol=450)  # 5 standard deviations


def test_the_same_generator_draws_the_same_segments():
    index = SegmentIndex.of(make_trajectories([30, 40]), 8)
    first, _ = index.sample(np.random.default_rng(7), 100)
    second, _ = index.sample(np.random.default_rng(7), 100)
    np.testing.assert_array_equal(first, second)
