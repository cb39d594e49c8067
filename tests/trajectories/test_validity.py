"""Missing actions and rewards: what is kept, and what is still known of returns and statistics."""

import dataclasses

import numpy as np
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.planning.prompts import ReturnPrompt
from m3pc_ray.trajectories import validity
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.returns import best_return, discounted_returns, returns_to_go
from m3pc_ray.trajectories.statistics import compute_statistics
from m3pc_ray.trajectories.summary import summarise
from tests.trajectories.factory import CUT, TERMINATED, TIME_LIMIT, assert_same, make_trajectories


def make_mixed(seed=0, share=0.8):
    """Episodes with every kind of end and single actions and rewards missing."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, size=9)
    ends = rng.choice([TERMINATED, TIME_LIMIT, CUT], size=9)
    data = make_trajectories(lengths, ends, seed=seed)
    actions_known, rewards_known = rng.random((2, data.num_steps)) < share
    return dataclasses.replace(data, actions_known=actions_known, rewards_known=rewards_known)


def episodes(data):
    """(first row, last row + 1) of every episode."""
    return list(zip(data.episode_starts[:-1], data.episode_starts[1:], strict=True))


def test_all_known_is_none_and_costs_nothing():
    data = make_trajectories([3, 4])
    told = dataclasses.replace(data, actions_known=np.ones(7, bool), rewards_known=[True] * 7)
    assert told.actions_known is None
    assert told.rewards_known is None
    assert told.actions is data.actions
    assert told.num_bytes == data.num_bytes
    for name in ("actions_known", "rewards_known"):
        with pytest.raises(ValueError, match="do not fit 7 steps"):
            dataclasses.replace(data, **{name: np.ones(6, bool)})


def test_missing_values_are_stored_as_zero_even_where_they_were_nan():
    data = make_trajectories([3, 4])
    known = np.array([1, 1, 0, 1, 1, 1, 0], bool)
    actions, rewards = data.actions.copy(), data.rewards.copy()
    actions[2], rewards[6] = np.nan, np.nan
    missing = dataclasses.replace(data, actions=actions, rewards=rewards, actions_known=known, rewards_known=known)
    np.testing.assert_array_equal(missing.actions, np.where(known[:, None], data.actions, 0))
    np.testing.assert_array_equal(missing.rewards, np.where(known, data.rewards, 0))
    assert np.isnan(actions[2]).all()  # what the caller handed over stays as it was


def test_selecting_joining_and_splitting_keep_what_is_known():
    data = make_mixed()
    chosen = [4, 0, 4]
    picked = data.select(chosen)
    rows = np.concatenate([np.arange(*episodes(data)[index]) for index in chosen])
    np.testing.assert_array_equal(picked.actions_known, data.actions_known[rows])
    np.testing.assert_array_equal(picked.rewards_known, data.rewards_known[rows])
    parts = [data.select([0, 1, 2]), data.select(np.arange(3, 9))]
    assert_same(Trajectories.concatenate(parts), data)
    complete = make_trajectories([2, 3])
    joined = Trajectories.concatenate([complete, data])
    np.testing.assert_array_equal(joined.actions_known, np.concatenate([np.ones(5, bool), data.actions_known]))
    assert_same(joined.select([0, 1]), complete)  # complete again: None again
    train, held_out = data.split(0.3, 1)
    both = sorted([*train.actions_known, *held_out.actions_known])
    assert both == sorted(data.actions_known)
    assert_same(data.fraction(0.5, 3), data.select(data.fraction_indices(0.5, 3)))


def test_dropping_the_actions_of_episodes():
    data = make_trajectories([3, 4, 2])
    less = data.without_actions([2, 0])
    assert less.actions_known.tolist() == [False] * 3 + [True] * 4 + [False] * 2
    assert not less.actions[:3].any()
    np.testing.assert_array_equal(less.actions[3:7], data.actions[3:7])
    np.testing.assert_array_equal(less.rewards, data.rewards)
    assert less.rewards_known is None
    assert less.without_actions([1]).actions_known.sum() == 0
    assert_same(data.without_actions([]), data)
    assert_same(less.with_actions(), data.select([1]))
    assert_same(less.complete_episodes(), data.select([1]))
    assert data.with_actions() is data
    gaps = data.timesteps() % 2 == 1  # no step with the one before it
    gaps[data.episode_starts[1]] = True
    with_gaps = dataclasses.replace(data, actions_known=gaps)
    assert_same(with_gaps.with_actions(past=1), with_gaps.select([1]))
    with pytest.raises(UserError, match="with those of the 1 steps before it"):
        with_gaps.select([0]).with_actions(past=1)
    assert data.complete_episodes() is data
    nothing = data.without_actions([0, 1, 2])
    for refused in (nothing.with_actions, nothing.complete_episodes):
        with pytest.raises(UserError, match=r"synthetic: .*actions"):
            refused()
    kept = data.labelled_only_in(0.4, 5).actions_known
    np.testing.assert_array_equal(kept, np.repeat(np.isin(np.arange(3), data.fraction_indices(0.4, 5)), data.lengths))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_known_of_the_rest_and_the_past_equals_a_loop(seed):
    data = make_mixed(seed)
    known = data.rewards_known
    rest, past = np.zeros(len(known), bool), np.zeros(len(known), bool)
    for first, last in episodes(data):
        for row in range(first, last):
            rest[row] = known[row:last].all()
            past[row] = known[max(first, row - 2) : row + 1].all()
    np.testing.assert_array_equal(validity.whole_rest(known, data.episode_starts), rest)
    np.testing.assert_array_equal(validity.whole_past(known, data.timesteps(), 2), past)
    whole = [known[first:last].all() for first, last in episodes(data)]
    np.testing.assert_array_equal(validity.whole_episodes(known, data.episode_starts), whole)


@pytest.mark.parametrize("seed", range(5))
def test_returns_are_known_where_the_whole_rest_is(seed):
    data = make_mixed(seed, share=0.9)
    values, known = returns_to_go(data, "sum", 10)
    discounted = discounted_returns(data, 0.9)
    for episode, (first, last) in enumerate(episodes(data)):
        for row in range(first, last):
            rest = data.rewards_known[row:last].all()
            assert known[row] == (rest and data.episode_ends[episode] != CUT)
            rewards = data.rewards[row:last].astype(np.float64)
            if known[row]:
                assert values[row] == pytest.approx(rewards.sum(), abs=1e-5)
            assert (
                discounted[row] == pytest.approx((rewards * 0.9 ** np.arange(last - row)).sum(), abs=1e-6) or not rest
            )
            assert np.isnan(discounted[row]) == (not rest)
        whole = data.rewards_known[first:last].all()
        assert np.isnan(data.returns[episode]) == (not whole)
        assert data.returns_known()[episode] == (whole and data.episode_ends[episode] != CUT)


def test_an_episode_without_return_ranks_last_and_counts_nowhere():
    data = make_trajectories([2, 2, 2], rewards=[1, 1, 50, 50, 2, 2])
    data = dataclasses.replace(data, rewards_known=np.array([1, 1, 1, 0, 1, 1], bool))
    assert data.best_first().tolist() == [2, 0, 1]
    assert best_return(data) == 4.0
    row = summarise(data)
    assert (row["return_min"], row["return_max"]) == (2.0, 4.0)
    assert row["fraction_rewards_known"] == pytest.approx(5 / 6)
    assert row["fraction_actions_known"] == 1.0
    prompt = ReturnPrompt.from_trajectories(data, "sum", 5)
    assert prompt.best_return == 4.0
    np.testing.assert_array_equal(prompt.best_at_step, [4, 2, 2, 2, 2])


def test_statistics_are_those_of_the_known_values():
    data = make_mixed(3)
    statistics = compute_statistics(data, "sum", 10)
    values, known = returns_to_go(data, "sum", 10)
    np.testing.assert_allclose(statistics.rewards_mean, [data.rewards[data.rewards_known].mean()], rtol=1e-5)
    np.testing.assert_allclose(statistics.rewards_std, [data.rewards[data.rewards_known].std()], rtol=1e-5)
    np.testing.assert_allclose(statistics.returns_mean, [values[known].mean()], rtol=1e-5)
    np.testing.assert_allclose(statistics.states_mean, data.observations.mean(0), rtol=1e-4)


def test_no_return_at_all_is_an_error_that_says_why():
    data = make_trajectories([2, 3])
    nothing = dataclasses.replace(data, rewards_known=np.zeros(5, bool))
    for refused in (lambda: compute_statistics(nothing, "sum", 10), lambda: best_return(nothing)):
        with pytest.raises(UserError, match="synthetic: every episode is cut or lacks rewards, so no return is known"):
            refused()
    assert summarise(nothing)["return_mean"] is None
