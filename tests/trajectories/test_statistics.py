"""Normalisation over real steps only, and scores against D4RL's published references."""

import json

import numpy as np
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.scores import normalised_score, reference_scores
from m3pc_ray.trajectories.statistics import Statistics, compute_statistics
from tests.trajectories.factory import CUT, TERMINATED, make_trajectories


def test_moments_by_hand_and_returns_without_cut_episodes():
    data = make_trajectories([2, 1], [TERMINATED, CUT], rewards=[1, 3, 8])
    statistics = compute_statistics(data, "sum", 10)
    np.testing.assert_allclose(statistics.rewards_mean, [4])
    np.testing.assert_allclose(statistics.rewards_std, [np.std([1, 3, 8])], rtol=1e-6)
    np.testing.assert_allclose(statistics.returns_mean, [3.5])  # 4 and 3; the 8 is of unknown future
    np.testing.assert_allclose(statistics.returns_std, [0.5])
    np.testing.assert_allclose(statistics.states_mean, data.observations.mean(axis=0), rtol=1e-5)


def test_a_nearly_constant_quantity_is_not_scaled():
    data = make_trajectories([3], rewards=[1.0, 1.05, 1.0])
    assert compute_statistics(data, "sum", 10).rewards_std == [1.0]


def test_states_have_a_smallest_deviation_of_their_own():
    data = make_trajectories([40, 30], rewards=0.05 * np.arange(70) / 70)
    data.observations[:, 0] *= 0.03 / data.observations[:, 0].std()
    usual, fine = compute_statistics(data, "sum", 100), compute_statistics(data, "sum", 100, 0.001)
    assert usual.states_std[0] == 1.0
    np.testing.assert_allclose(fine.states_std[0], 0.03, rtol=1e-4)
    np.testing.assert_array_equal(fine.states_std[1:], usual.states_std[1:])
    assert fine.rewards_std == usual.rewards_std == [1.0]


def test_round_trip_through_json_is_exact():
    statistics = compute_statistics(make_trajectories([5, 4]), "average", 10)
    back = Statistics.from_dict(json.loads(json.dumps(statistics.to_dict())))
    for name, value in vars(statistics).items():
        np.testing.assert_array_equal(getattr(back, name), value)
        assert getattr(back, name).dtype == np.float32


def test_all_cut_has_no_statistics():
    with pytest.raises(UserError, match="every episode is cut"):
        compute_statistics(make_trajectories([3], [CUT]), "sum", 10)


def test_scores_of_d4rl():
    assert normalised_score(3234.3, "Hopper-v4") == pytest.approx(100)
    assert normalised_score(-20.272305, "Hopper-v5") == pytest.approx(0)
    assert normalised_score(1756.0, "Hopper-v4") == pytest.approx(54.57, abs=0.01)
    np.testing.assert_allclose(normalised_score(np.array([12135.0, -280.178953]), "HalfCheetah-v4"), [100, 0])
    assert reference_scores("walker2d") == (1.629008, 4592.3)
    assert normalised_score(1.0, "Pendulum-v1") is None


def test_a_data_sets_own_references_come_first():
    metadata = make_trajectories([1]).metadata.replace(reference_min_score=0.0, reference_max_score=50.0)
    assert normalised_score(25.0, metadata) == 50.0
