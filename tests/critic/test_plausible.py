"""What values can be, against sums written out."""

import numpy as np
import pytest

from m3pc_ray.critic.plausible import diverged, possible_returns


@pytest.mark.parametrize(
    ("rewards", "low", "high"), [([0, 1, 0], 0.0, 1.0), ([1, 3], 0.0, 3.0), ([-2, -1], -2.0, 0.0), ([-1, 4], -1.0, 4.0)]
)
def test_the_most_is_the_largest_reward_for_ever(rewards: list[float], low: float, high: float) -> None:
    sums = (0.9 ** np.arange(2000)).sum()
    assert possible_returns(rewards, 0.9) == pytest.approx((low * sums, high * sums))


def test_without_discount_nothing_is_impossible_but_what_no_reward_pays() -> None:
    assert possible_returns([0.0, 2.0], 1.0)[1] == np.inf
    assert not diverged(1e12, possible_returns([0.0, 2.0], 1.0), 1.0)


def test_a_little_over_is_no_divergence() -> None:
    possible = (0.0, 100.0)
    assert not any(diverged(value, possible, 1.0) for value in (-50.0, 0.0, 99.0, 105.0, 200.0))
    assert all(diverged(value, possible, 1.0) for value in (-102.0, 202.0, 9.3e7, np.nan))
    assert not diverged(0.5, (0.0, 0.0), 1.0)  # no reward at all: values wander about 0
