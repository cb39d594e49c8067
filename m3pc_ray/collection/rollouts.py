"""Playing as many episodes as are wanted, each kept on disk as soon as it has ended.

FOLDER/000012.npz     episode 12 of the source
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m3pc_ray.collection.source import Episode, Source, as_trajectories
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories

Progress = Callable[[int, int], None]
"""Called after every step of the environments: episodes that ended and steps taken, over all sittings; what it raises
ends the collection."""


@dataclass(frozen=True)
class Wanted:
    """When there are enough episodes: after so many, or as soon as they have so many steps together."""

    episodes: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        if (self.episodes > 0) == (self.steps > 0):
            raise UserError("either a number of episodes or a number of steps must be above 0")

    def enough(self, episodes: int, steps: int) -> bool:
        """Whether so many episodes with so many steps together suffice."""
        return steps >= self.steps if self.steps else episodes >= self.episodes


class EpisodeFolder:
    """The episodes of a collection under way, by number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        for debris in path.glob("*.partial"):
            debris.unlink()
        self.lengths = {int(file.stem): len(self.read(int(file.stem))) for file in path.glob("*.npz")}
        """Steps of every episode that is there."""

    def write(self, number: int, episode: Episode) -> None:
        """Keeps an episode, complete or not at all. Raises UserError where the disk does not take it."""
        partial = self.path / f"{number:06d}.partial"
        try:
            with partial.open("wb") as file:
                np.savez(
                    file,
                    observations=episode.observations,
                    actions=episode.actions,
                    rewards=episode.rewards,
                    end=np.int8(episode.end),
                )
            os.replace(partial, self._file(number))
        except OSError as error:
            raise UserError(f"{self._file(number)}: cannot be written ({error.strerror or error})") from error
        self.lengths[number] = len(episode)

    def read(self, number: int) -> Episode:
        """Raises UserError where the file is damaged."""
        try:
            with np.load(self._file(number), allow_pickle=False) as held:
                end = EpisodeEnd(int(held["end"]))
                return Episode(held["observations"], held["actions"], held["rewards"], end)
        except Exception as error:  # zipfile, numpy and the kernel each have their own
            raise UserError(f"{self._file(number)}: a damaged episode ({error}); remove it to play it again") from error

    def _file(self, number: int) -> Path:
        return self.path / f"{number:06d}.npz"


def collect(
    source: Source, wanted: Wanted, folder: EpisodeFolder, metadata: DatasetMetadata, progress: Progress
) -> Trajectories:
    """The first episodes of a source that suffice, those in the folder not played again.

    Which they are does not depend on how many are played side by side: the first n by number.
    """
    taken = sum(folder.lengths.values())

    def tick(steps: int) -> None:
        nonlocal taken
        taken += steps
        progress(len(folder.lengths), taken)

    def missing() -> Iterator[int]:
        number = 0
        while not _first(folder, wanted) and (wanted.steps or number < wanted.episodes):
            if number not in folder.lengths:
                yield number
            number += 1

    with contextlib.closing(source.play(missing(), tick)) as episodes:  # type: ignore[type-var]
        for number, episode in episodes:
            folder.write(number, episode)
            if _first(folder, wanted):  # those still under way have later numbers
                break
    progress(len(folder.lengths), sum(folder.lengths.values()))
    chosen = _first(folder, wanted)
    return as_trajectories((folder.read(number) for number in range(chosen)), metadata)


def _first(folder: EpisodeFolder, wanted: Wanted) -> int:
    """How many of the first episodes suffice; 0 while one of them is missing."""
    episodes = steps = 0
    while episodes in folder.lengths:
        steps += folder.lengths[episodes]
        episodes += 1
        if wanted.enough(episodes, steps):
            return episodes
    return 0
