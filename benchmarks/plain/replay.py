"""Replay as it is written first: a deque of transitions, a list of episodes, batches stacked element by element."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor

NAMES = ("observations", "actions", "rewards", "next_observations", "terminated")


class TransitionDeque:
    """Transitions, first in, first out."""

    def __init__(self, capacity: int, seed: int = 0) -> None:
        self.transitions: deque[tuple[Any, ...]] = deque(maxlen=capacity)
        self.random = random.Random(seed)

    def append(self, transition: tuple[Any, ...]) -> None:
        self.transitions.append(transition)

    def sample(self, count: int) -> dict[str, Tensor]:
        """`count` transitions, uniform with replacement."""
        size = len(self.transitions)
        drawn = [self.transitions[self.random.randrange(size)] for _ in range(count)]
        return {
            name: torch.from_numpy(np.stack(values)).float()
            for name, values in zip(NAMES, zip(*drawn, strict=True), strict=True)
        }


class EpisodeList:
    """Whole episodes; a segment is cut out of one and normalised when it is drawn."""

    def __init__(
        self,
        episodes: list[dict[str, np.ndarray]],
        means: dict[str, np.ndarray],
        stds: dict[str, np.ndarray],
        segment_length: int,
        seed: int = 0,
    ) -> None:
        self.episodes, self.means, self.stds = episodes, means, stds
        self.segment_length = segment_length
        self.random = random.Random(seed)
        starts = [max(1, len(episode["rewards"]) - segment_length + 1) for episode in episodes]
        self.cumulative = np.cumsum(starts)

    def sample(self, count: int) -> dict[str, Tensor]:
        """`count` segments (count, T, dim) by modality, uniform over all start positions; short episodes padded."""
        drawn: dict[str, list[np.ndarray]] = {name: [] for name in self.episodes[0]}
        for _ in range(count):
            picked = self.random.randrange(int(self.cumulative[-1]))
            index = int(np.searchsorted(self.cumulative, picked, side="right"))
            start = picked - (int(self.cumulative[index - 1]) if index else 0)
            for name, values in self.episodes[index].items():
                part = values[start : start + self.segment_length]
                if name in self.means:
                    part = (part - self.means[name]) / self.stds[name]
                if len(part) < self.segment_length:
                    part = np.concatenate([part, np.zeros((self.segment_length - len(part), part.shape[1]))])
                drawn[name].append(part)
        return {name: torch.from_numpy(np.stack(values)).float() for name, values in drawn.items()}
