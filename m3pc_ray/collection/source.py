"""Who plays the episodes of a data set. A policy is one kind (`policy_source`); a scripted expert can be another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories

Tick = Callable[[int], None]
"""Called with the number of environment steps just taken; what it raises ends the collection."""


@dataclass(frozen=True)
class Episode:
    """One episode, whole."""

    observations: NDArray[np.float32]
    """(T + 1, observation_dim), the one after the last action included"""
    actions: NDArray[np.float32]
    """(T, action_dim) in the environment's bounds"""
    rewards: NDArray[np.float32]
    """(T,)"""
    end: EpisodeEnd

    def __len__(self) -> int:
        return len(self.rewards)


class Source(Protocol):
    """Plays numbered episodes. An episode depends on its number and the source's seed alone, so that a collection may
    be interrupted and go on, and so that it does not matter how many are played side by side."""

    metadata: DatasetMetadata
    """Of the environment; name and origin are the collection's to fill in."""

    def recipe(self) -> dict[str, Any]:
        """All that tells this source from others, for recipe.json: plain values; `policy` and `seed` are among them."""

    def play(self, numbers: Iterable[int], tick: Tick) -> Iterator[tuple[int, Episode]]:
        """Episodes in the order in which they end; the next number is taken when there is room for one more."""


def as_trajectories(episodes: Iterable[Episode], metadata: DatasetMetadata) -> Trajectories:
    """Episodes one after another as a data set."""
    parts = list(episodes)
    starts = np.concatenate([[0], np.cumsum([len(episode) for episode in parts])]).astype(np.int64)
    return Trajectories(
        observations=np.concatenate([episode.observations[:-1] for episode in parts]),
        actions=np.concatenate([episode.actions for episode in parts]),
        rewards=np.concatenate([episode.rewards for episode in parts]),
        episode_starts=starts,
        episode_ends=np.array([episode.end for episode in parts], dtype=np.int8),
        final_observations=np.stack([episode.observations[-1] for episode in parts]),
        metadata=metadata,
    )
