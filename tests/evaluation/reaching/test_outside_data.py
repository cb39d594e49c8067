"""Distances to the data against brute force, components against the covariance's eigenvectors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.reaching.outside_data import DataCloud, nearest_distances
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from m3pc_ray.trajectories.statistics import Statistics, compute_statistics
from tests.trajectories.factory import make_trajectories


def statistics_of(data: Trajectories) -> Statistics:
    return compute_statistics(data, "sum", 1000)


@pytest.mark.parametrize("seed", range(4))
def test_nearest_distances_against_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dimension = int(rng.integers(1, 18))
    cloud = rng.normal(size=(int(rng.integers(1, 700)), dimension)).astype(np.float32)
    points = (3.0 * rng.normal(size=(int(rng.integers(1, 600)), dimension))).astype(np.float32)
    points[0] = cloud[-1]
    differences = points[:, np.newaxis].astype(np.float64) - cloud
    expected = np.sqrt(np.square(differences).mean(axis=2)).min(axis=1)
    np.testing.assert_allclose(nearest_distances(points, cloud), expected, rtol=1e-5, atol=1e-7)
    assert nearest_distances(points, cloud)[0] == 0.0


def test_projection_is_that_of_the_covariance() -> None:
    data = make_trajectories([150, 200, 120, 90, 140])
    mixed = np.random.default_rng(3).normal(size=(11, 11)).astype(np.float32)
    data = dataclasses.replace(data, observations=data.observations @ mixed + 2.0)
    statistics = statistics_of(data)
    cloud = DataCloud.fit(data, statistics, seed=0)
    standardised = cloud.states.astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(standardised.T))
    np.testing.assert_allclose(cloud.explained, values[::-1][:2] / values.sum(), rtol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(cloud.components.T * vectors[:, [-1, -2]], axis=0)), 1.0, rtol=1e-5)
    assert (cloud.components[[0, 1], np.abs(cloud.components).argmax(axis=1)] > 0).all()
    raw = cloud.states * statistics.states_std + statistics.states_mean
    np.testing.assert_allclose(cloud.project(raw), cloud.projected_states(), atol=1e-4)
    offset, matrix = cloud.projection()
    np.testing.assert_allclose((raw[:5] - offset) @ matrix.T, cloud.project(raw[:5]))


def test_held_out_states_come_from_other_episodes() -> None:
    data = make_trajectories([60] * 10)
    # Every episode stays within a thousandth of a place of its own, so a neighbour from it would be that near.
    places = np.repeat(10.0 * np.random.default_rng(0).normal(size=(10, 11)), 60, axis=0)
    data = dataclasses.replace(data, observations=np.float32(places + 1e-3 * data.observations))
    cloud = DataCloud.fit(data, statistics_of(data), seed=1)
    assert len(cloud.states) == 480
    assert len(cloud.held_out_distances) == 120
    assert cloud.held_out_distances.min() > 0.1


def test_measures_tell_states_of_the_data_from_others() -> None:
    data = make_trajectories([300] * 8)
    cloud = DataCloud.fit(data, statistics_of(data), seed=0)
    same = make_trajectories([300], seed=9).observations
    near, far = cloud.measures(same), cloud.measures(same + 8.0)
    assert near["nearest_distance_mean"] == pytest.approx(near["data_distance_median"], rel=0.2)
    assert near["share_outside"] < 0.1
    assert far["share_outside"] == 1.0
    assert far["data_distance_p99"] == near["data_distance_p99"] == np.percentile(cloud.held_out_distances, 99)
    distances = cloud.distances(same)
    assert near["share_outside"] == np.mean([distance > near["data_distance_p99"] for distance in distances])
    assert near["nearest_distance_max"] == distances.max()
    assert near["nearest_distance_median"] == np.median(distances)


def test_the_cloud_is_limited_seeded_and_needs_two_episodes() -> None:
    data = make_trajectories([100] * 6)
    statistics = statistics_of(data)
    small = DataCloud.fit(data, statistics, seed=0, max_states=50)
    assert len(small.states) == 50
    np.testing.assert_array_equal(small.states, DataCloud.fit(data, statistics, seed=0, max_states=50).states)
    assert not np.array_equal(small.states, DataCloud.fit(data, statistics, seed=1, max_states=50).states)
    single = make_trajectories([50], [EpisodeEnd.TIME_LIMIT])
    with pytest.raises(UserError, match="at least two"):
        DataCloud.fit(single, statistics_of(single), seed=0)


def test_a_state_of_one_entry_has_a_plane_too() -> None:
    data = make_trajectories([40] * 4)
    one = dataclasses.replace(
        data, observations=data.observations[:, :1], final_observations=data.final_observations[:, :1]
    )
    cloud = DataCloud.fit(one, statistics_of(one), seed=0)
    np.testing.assert_allclose(cloud.explained, [1.0, 0.0])
    assert cloud.project(one.observations).shape == (160, 2)
