"""Returns-to-go by hand, for every kind of end and both scales."""

import numpy as np
import pytest
import torch

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.returns import best_return, best_return_to_go, from_sum, returns_to_go, to_sum
from tests.trajectories.factory import CUT, TERMINATED, TIME_LIMIT, make_trajectories

# A terminated episode of 3 steps, one that reached a limit of 4, and one that the file cut after 2.
LENGTHS, ENDS = [3, 4, 2], [TERMINATED, TIME_LIMIT, CUT]
REWARDS = [1, 2, 3, 1, 1, 1, 1, 50, 50]
SUMS = [6, 5, 3, 4, 3, 2, 1, 100, 50]
KNOWN = [True] * 7 + [False] * 2


def hand_made():
    return make_trajectories(LENGTHS, ENDS, REWARDS)


def test_sums_include_the_reward_of_the_step_itself():
    values, known = returns_to_go(hand_made(), "sum", 4)
    np.testing.assert_array_equal(values, SUMS)
    np.testing.assert_array_equal(known, KNOWN)
    assert values.dtype == np.float32


def test_averages_divide_by_the_steps_left_to_the_limit():
    values, known = returns_to_go(hand_made(), "average", 4)
    by_hand = [6 / 4, 5 / 3, 3 / 2, 4 / 4, 3 / 3, 2 / 2, 1 / 1, 100 / 4, 50 / 3]
    np.testing.assert_allclose(values, by_hand, rtol=1e-6)
    np.testing.assert_array_equal(known, KNOWN)


def test_returns_of_neighbouring_episodes_do_not_leak():
    data = make_trajectories([2, 2], rewards=[1e6, 1e6, 0.125, 0.25])
    values, _ = returns_to_go(data, "sum", 2)
    np.testing.assert_array_equal(values, [2e6, 1e6, 0.375, 0.25])


@pytest.mark.parametrize("scale", ["average", "sum"])
def test_scale_is_undone_alike_for_arrays_and_tensors(scale):
    data = hand_made()
    values, _ = returns_to_go(data, scale, 4)
    back = to_sum(values, data.timesteps(), scale, 4)
    np.testing.assert_allclose(back, SUMS, rtol=1e-6)
    assert back.dtype == np.float32
    tensor = to_sum(torch.as_tensor(values), torch.as_tensor(data.timesteps()), scale, 4)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), back)
    again = from_sum(tensor, torch.as_tensor(data.timesteps()), scale, 4)
    np.testing.assert_allclose(again.numpy(), values, rtol=1e-6)


def test_one_step_counts_as_left_beyond_the_limit():
    np.testing.assert_array_equal(from_sum(np.float32([8, 8, 8]), [3, 4, 9], "average", 4), [8, 8, 8])


def test_best_return_to_go_ignores_cut_episodes_and_repeats_the_last_value():
    best = best_return_to_go(hand_made(), "sum", 6)
    np.testing.assert_array_equal(best, [6, 5, 3, 1, 1, 1])
    assert best_return(hand_made()) == 6.0
    averages = best_return_to_go(hand_made(), "average", 5)
    np.testing.assert_allclose(averages, [6 / 5, 5 / 4, 3 / 3, 1 / 2, 1 / 2], rtol=1e-6)


def test_no_known_return_is_an_error():
    data = make_trajectories([3], [CUT])
    with pytest.raises(UserError, match="every episode is cut"):
        best_return_to_go(data, "sum", 10)
    with pytest.raises(UserError, match="every episode is cut"):
        best_return(data)


def test_settings_that_cannot_be():
    with pytest.raises(UserError, match="an episode of 4 steps; data.time_limit is 3"):
        returns_to_go(hand_made(), "average", 3)
    with pytest.raises(UserError, match="data.return_scale"):
        returns_to_go(hand_made(), "median", 4)
    with pytest.raises(UserError, match="data.time_limit"):
        returns_to_go(hand_made(), "average", 0)
