"""Windows of T consecutive steps of one episode, drawn uniformly.

T = 4      rows 10 11 12 13 14 15   an episode of 6 steps has 3 segments: 10.., 11.., 12..
           rows 16 17               one of 2 steps has 1: rows 16 17 17 17, valid 1 1 0 0
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.trajectories.episodes import Trajectories


class SegmentIndex:
    """Where segments may start. Every start position 0..L-T of every episode is equally likely.

    An episode shorter than T has one segment, padded at the end by its last step. No segment crosses an episode.
    """

    def __init__(self, starts: NDArray[np.int64], lasts: NDArray[np.int64], segment_length: int) -> None:
        if segment_length < 1:
            raise ValueError(f"segment_length is {segment_length}; it must be at least 1")
        self.starts = starts
        """(segments,) first row of every segment"""
        self.lasts = lasts
        """(segments,) last row of its episode"""
        self.segment_length = segment_length
        self._offsets = np.arange(segment_length)

    @classmethod
    def of(cls, trajectories: Trajectories, segment_length: int) -> SegmentIndex:
        """All segments of the episodes."""
        counts = np.maximum(trajectories.lengths - segment_length + 1, 1)  # (episodes,) segments of each episode
        first = np.cumsum(counts) - counts
        within = np.arange(counts.sum()) - np.repeat(first, counts)
        starts = np.repeat(trajectories.episode_starts[:-1], counts) + within
        return cls(starts, np.repeat(trajectories.episode_starts[1:] - 1, counts), segment_length)

    def select(self, chosen: NDArray[np.bool_]) -> SegmentIndex:
        """Those segments alone, (segments,) True."""
        return SegmentIndex(self.starts[chosen], self.lasts[chosen], self.segment_length)

    @property
    def num_segments(self) -> int:
        return len(self.starts)

    def sample(self, rng: np.random.Generator, count: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(rows (count, T), valid (count, T)): row indices into the flat arrays, drawn with replacement."""
        return self.rows(rng.integers(0, self.num_segments, size=count))

    def all_segments(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(rows (num_segments, T), valid (num_segments, T)): every segment once, in the order of the episodes."""
        return self.rows(np.arange(self.num_segments))

    def rows(self, segments: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(rows (count, T), valid (count, T)) of the segments with the given numbers (count,)."""
        rows = self.starts[segments, None] + self._offsets
        lasts = self.lasts[segments, None]
        return np.minimum(rows, lasts), rows <= lasts
