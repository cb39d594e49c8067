"""How far from the data reached states are: nearest-neighbour distances, and a plane to look at them in.

Distances are root mean squares over the dimensions of standardised states: 1 means that a state and the nearest state
of the data are one standard deviation apart in every dimension. What counts as far is what the data itself says: the
same distance of states from episodes that were held out of the cloud.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.statistics import Statistics

HELD_OUT_FRACTION = 0.2
"""Share of the episodes that say how far apart states of different episodes are."""
HELD_OUT_STATES = 5000
"""Held-out states looked at, at most."""
OUTSIDE_PERCENTILE = 99.0
"""Reached states farther than this percentile of the held-out states' distances count as outside the data."""
_BLOCK = 256


@dataclass(frozen=True)
class DataCloud:
    """A sample of the data's states, standardised, and what is measured against it."""

    mean: NDArray[np.float32]
    """(observation_dim,) of the data, raw units."""
    std: NDArray[np.float32]
    """(observation_dim,) of the data, raw units."""
    states: NDArray[np.float32]
    """(n, observation_dim) standardised states of the episodes that were not held out."""
    held_out_distances: NDArray[np.float64]
    """(m,) distances of states of the held-out episodes to `states`."""
    centre: NDArray[np.float64]
    """(observation_dim,) mean of `states`."""
    components: NDArray[np.float64]
    """(2, observation_dim) unit directions of the largest variance of `states`."""
    explained: NDArray[np.float64]
    """(2,) share of the variance along each."""

    @classmethod
    def fit(cls, trajectories: Trajectories, statistics: Statistics, seed: int, max_states: int = 20_000) -> DataCloud:
        """A cloud of at most `max_states` states, drawn evenly from all episodes but the held-out ones.

        Args:
            trajectories: the data.
            statistics: what states are standardised with: the run's, so that all measures have the same unit.
            seed: of the split of episodes and of the draw.
            max_states: more are slower, and bring all distances down, the held-out ones included.

        Raises:
            UserError: fewer than two episodes, so that none can be held out.
        """
        cloud, held_out = trajectories.split(HELD_OUT_FRACTION, seed)
        rng = np.random.default_rng(seed)
        mean, std = statistics.states_mean, statistics.states_std
        states = (_draw(cloud.observations, max_states, rng) - mean) / std
        others = (_draw(held_out.observations, HELD_OUT_STATES, rng) - mean) / std
        centre = states.mean(axis=0, dtype=np.float64)
        components, explained = _principal_components(states - centre)
        return cls(mean, std, states, nearest_distances(others, states), centre, components, explained)

    def distances(self, reached: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) distance of every state of `reached` (n, observation_dim), raw units, to the nearest of the cloud."""
        return nearest_distances((reached - self.mean) / self.std, self.states)

    def project(self, reached: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, 2) places of `reached` (n, observation_dim), raw units, in the plane of the two components."""
        offset, matrix = self.projection()
        return (reached - offset) @ matrix.T

    def projection(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Offset (observation_dim,) and matrix (2, observation_dim): a raw state s lies at matrix @ (s - offset)."""
        return self.mean + self.centre * self.std, self.components / self.std

    def projected_states(self) -> NDArray[np.float64]:
        """(n, 2) places of the cloud's own states in the plane."""
        return (self.states - self.centre) @ self.components.T

    @property
    def outside_distance(self) -> float:
        """A state farther than this is outside the data."""
        return float(np.percentile(self.held_out_distances, OUTSIDE_PERCENTILE))

    def measures(self, reached: NDArray[np.float32]) -> dict[str, float]:
        """Distances of reached states (n, observation_dim), raw units, beside those of held-out states of the data.

        Keys: `nearest_distance_mean`, `_median`, `_max`; `share_outside` (share of the states farther than
        `data_distance_p99`); `data_distance_median`, `data_distance_p99`.
        """
        distances = self.distances(reached)
        return {
            "nearest_distance_mean": float(distances.mean()),
            "nearest_distance_median": float(np.median(distances)),
            "nearest_distance_max": float(distances.max()),
            "share_outside": float(np.mean(distances > self.outside_distance)),
            "data_distance_median": float(np.median(self.held_out_distances)),
            "data_distance_p99": self.outside_distance,
        }


def nearest_distances(points: NDArray[np.float32], cloud: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) root mean square distance over dimensions of every point (n, dim) to its nearest neighbour in (m, dim)."""
    # |p - c|² = |p|² - 2 p.c + |c|² finds the neighbour by one product a block; |p|² does not matter for which is
    # nearest. The distance is then taken from the difference itself, as the product would lose small ones to rounding.
    half_squares = 0.5 * np.square(cloud).sum(axis=1)
    nearest = np.empty(len(points), dtype=np.int64)
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        nearest[start : start + _BLOCK] = np.argmin(half_squares - block @ cloud.T, axis=1)
    return np.sqrt(np.mean(np.square(points.astype(np.float64) - cloud[nearest]), axis=1))


def _draw(observations: NDArray[np.float32], most: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """All rows (n, dim), or `most` of them drawn without repetition."""
    if len(observations) <= most:
        return observations
    return observations[np.sort(rng.choice(len(observations), most, replace=False))]


def _principal_components(centred: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Components (2, dim) and shares of variance (2,) of (n, dim); zeros for a second one that does not exist."""
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    count = min(2, len(directions))
    components, explained = np.zeros((2, centred.shape[1])), np.zeros(2)
    # The sign of a component is arbitrary: its largest entry is made positive, so that pictures can be compared.
    largest = np.argmax(np.abs(directions[:count]), axis=1)
    components[:count] = directions[:count] * np.sign(directions[np.arange(count), largest])[:, np.newaxis]
    explained[:count] = np.square(singular[:count]) / max(np.square(singular).sum(), np.finfo(np.float64).tiny)
    return components, explained
