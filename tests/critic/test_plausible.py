"""What values can be, against returns of random policies and sums written out."""

import numpy as np
import pytest

from m3pc_ray.config import CriticConfig
from m3pc_ray.critic.plausible import complaint, diverged, possible_returns
from tests.planning.factory import fresh_seed


@pytest.mark.parametrize(
    ("going_on", "last", "low", "high"),
    [
        ([0, 0], [1], 0.0, 1.0),  # success, once
        ([1, 3], [], 0.0, 30.0),
        ([-2, -1], [], -20.0, 0.0),
        ([-1, 4], [-100], -100.0, 40.0),
        ([-1, 0], [50], -10.0, 50.0),
        ([], [2, 5], 0.0, 5.0),
    ],
)
def test_a_reward_for_ever_or_one_that_ends_it(going_on, last, low, high) -> None:
    rewards, ends = going_on + last, [0.0] * len(going_on) + [1.0] * len(last)
    assert possible_returns(rewards, ends, 0.9) == pytest.approx((low, high))


def test_no_return_of_such_rewards_lies_outside() -> None:
    rng = np.random.default_rng(fresh_seed())
    for _ in range(50):
        going_on, last = rng.normal(size=5) + rng.normal(), rng.normal(size=2) * 10.0
        low, high = possible_returns(np.concatenate([going_on, last]), np.arange(7) >= 5, 0.9)
        for steps in (0, 1, 7, 400):
            earned = np.append(rng.choice(going_on, steps), rng.choice(last))
            assert low - 1e-9 <= (earned * 0.9 ** np.arange(steps + 1)).sum() <= high + 1e-9


def test_without_discount_nothing_is_impossible_but_what_no_reward_pays() -> None:
    assert possible_returns([0.0, 2.0], [0, 0], 1.0) == (0.0, np.inf)
    assert possible_returns([-1.0, 0.0], [0, 0], 1.0) == (-np.inf, 0.0)
    assert possible_returns([0.0, 1.0], [0, 1], 1.0) == (0.0, 1.0)
    assert not diverged(1e12, (0.0, np.inf), 1.0)
    assert diverged(-5.0, (0.0, np.inf), 1.0)


def test_a_little_over_is_no_divergence() -> None:
    possible = (0.0, 100.0)
    assert not any(diverged(value, possible, 1.0) for value in (-50.0, 0.0, 99.0, 105.0, 200.0))
    assert all(diverged(value, possible, 1.0) for value in (-102.0, 202.0, 9.3e7, np.nan))
    assert not diverged(0.5, (0.0, 0.0), 1.0)  # no reward at all: values wander about 0


def test_bootstrapping_through_an_end_lets_its_reward_come_again() -> None:
    rewards, ends = [0.0, 1.0], [0.0, 1.0]
    assert "between 0 and 1;" in complaint(30.0, rewards, ends, CriticConfig(discount=0.99), 0.3)
    through = CriticConfig(discount=0.99, bootstrap_through_terminations=True)
    assert not complaint(30.0, rewards, ends, through, 0.3)
    assert "between 0 and 100;" in complaint(300.0, rewards, ends, through, 0.3)
