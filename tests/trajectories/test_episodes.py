"""The in-memory form: flat arrays and the index of episodes."""

import dataclasses
import json

import numpy as np
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.episodes import DatasetMetadata, Trajectories
from tests.trajectories.factory import CUT, TERMINATED, TIME_LIMIT, assert_same, make_trajectories


def test_what_follows_each_step_is_the_next_row_or_the_final_observation():
    data = make_trajectories([2, 3], [TERMINATED, CUT], unknown_finals=[1])
    following = data.next_observations()
    np.testing.assert_array_equal(following[0], data.observations[1])
    np.testing.assert_array_equal(following[1], data.final_observations[0])
    np.testing.assert_array_equal(following[2:4], data.observations[3:5])
    assert np.isnan(following[4]).all()


def test_only_the_last_step_of_a_terminated_episode_is_terminated():
    data = make_trajectories([2, 3, 1], [TERMINATED, TIME_LIMIT, CUT])
    np.testing.assert_array_equal(data.terminated(), [False, True, False, False, False, False])
    np.testing.assert_array_equal(data.timesteps(), [0, 1, 0, 1, 2, 0])
    np.testing.assert_array_equal(data.lengths, [2, 3, 1])


def test_returns_are_summed_in_double_precision():
    rewards = [1e8, 1.0, 1.0, 1.0, 2.0]
    data = make_trajectories([4, 1], rewards=rewards)
    np.testing.assert_array_equal(data.returns, [100_000_003.0, 2.0])


def test_select_keeps_order_and_contents():
    data = make_trajectories([2, 3, 4], [TERMINATED, TIME_LIMIT, CUT])
    chosen = data.select([2, 0])
    np.testing.assert_array_equal(chosen.episode_starts, [0, 4, 6])
    np.testing.assert_array_equal(chosen.observations, data.observations[[5, 6, 7, 8, 0, 1]])
    np.testing.assert_array_equal(chosen.episode_ends, [CUT, TERMINATED])
    np.testing.assert_array_equal(chosen.final_observations, data.final_observations[[2, 0]])


def test_concatenate_undoes_select():
    data = make_trajectories([2, 3, 4], [TERMINATED, TIME_LIMIT, CUT], unknown_finals=[2])
    assert_same(Trajectories.concatenate([data.select([0]), data.select([1, 2])]), data)


def test_concatenate_refuses_another_environment():
    data = make_trajectories([2])
    other = dataclasses.replace(data, metadata=data.metadata.replace(environment_id="Walker2d-v4", name="walker"))
    with pytest.raises(UserError, match="walker comes from Walker2d-v4 and cannot be joined to synthetic"):
        Trajectories.concatenate([data, other])


def test_split_is_a_seeded_partition_of_whole_episodes():
    data = make_trajectories(range(1, 41))  # every episode has a length of its own
    training, validation = data.split(0.1, seed=3)
    assert validation.num_episodes == 4
    assert sorted([*training.lengths, *validation.lengths]) == list(range(1, 41))
    again = data.split(0.1, seed=3)
    assert_same(again[1], validation)
    # neither the newest episodes nor the same whatever the seed
    assert sorted(validation.lengths) != [37, 38, 39, 40]
    assert sorted(data.split(0.1, seed=4)[1].lengths) != sorted(validation.lengths)


def test_split_holds_out_at_least_one_and_never_all():
    training, validation = make_trajectories([2, 2]).split(0.01, seed=0)
    assert (training.num_episodes, validation.num_episodes) == (1, 1)
    training, validation = make_trajectories([2, 2]).split(0.99, seed=0)
    assert (training.num_episodes, validation.num_episodes) == (1, 1)
    with pytest.raises(UserError, match="at least two"):
        make_trajectories([5]).split(0.05, seed=0)
    with pytest.raises(UserError, match="above 0 and below 1"):
        make_trajectories([2, 2]).split(0.0, seed=0)


@pytest.mark.parametrize("starts", [[0, 2, 4], [0, 3, 3, 5], [1, 2, 5], [0, 4, 2, 5]])
def test_an_index_that_does_not_fit_is_refused(starts):
    data = make_trajectories([2, 3])
    count = len(starts) - 1
    with pytest.raises(ValueError):
        dataclasses.replace(
            data,
            episode_starts=np.array(starts),
            episode_ends=np.zeros(count),
            final_observations=np.zeros((count, 11)),
        )


def test_metadata_survives_strict_json():
    metadata = make_trajectories([1]).metadata
    assert metadata.observation_low == (-np.inf,) * 11
    text = json.dumps(metadata.to_json(), allow_nan=False)
    assert DatasetMetadata.from_json(json.loads(text)) == metadata
