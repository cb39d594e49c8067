"""Coverage of a distribution that is known: right, too narrow, and clipped at the bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from m3pc_ray.evaluation.capabilities.calibration import NOMINAL, covered, pit_histogram, pit_ranges, share_below
from m3pc_ray.model.distribution import SquashedGaussian

COUNT = 40_000
CLIP = 1e-3


def logged(spread: float, seed: int) -> tuple[SquashedGaussian, torch.Tensor]:
    """A distribution (COUNT, 2), and actions whose standard deviation is `spread` times what it says."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(COUNT, 2, generator=generator) * 1.5
    log_std = -1.0 + 0.5 * torch.randn(COUNT, 2, generator=generator)
    noise = torch.randn(COUNT, 2, generator=generator)
    actions = SquashedGaussian(mean, log_std, CLIP).sample(spread * noise)
    bound = 1.0 - CLIP
    clipped = torch.where(actions.abs() > bound, actions.sign(), actions)  # as environments clip
    return SquashedGaussian(mean, log_std, CLIP), clipped


def test_a_calibrated_distribution_covers_what_it_says_also_where_actions_are_clipped() -> None:
    distribution, actions = logged(1.0, 0)
    assert 0.01 < float((actions.abs() == 1).float().mean()) < 0.2, "some actions are at the bounds"
    pits = pit_ranges(distribution, actions)
    for nominal in NOMINAL:
        assert covered(*pits, nominal).mean() == pytest.approx(nominal, abs=0.01)
    np.testing.assert_allclose(pit_histogram(*pits), 0.05, atol=0.005)


def test_one_that_is_too_narrow_covers_too_little() -> None:
    pits = pit_ranges(*logged(2.0, 1))
    for nominal in NOMINAL[:-1]:
        assert covered(*pits, nominal).mean() < nominal - 0.03
    histogram = pit_histogram(*pits)
    assert min(histogram[0], histogram[-1]) > 2 * histogram[10]


def test_an_action_at_a_bound_is_spread_over_what_lies_beyond_it() -> None:
    pre_tanh = float(np.arctanh(1 - CLIP))
    distribution = SquashedGaussian(torch.full((1, 1), pre_tanh), torch.zeros(1, 1), CLIP)
    lowest, highest = pit_ranges(distribution, torch.ones(1, 1))  # half of the probability lies beyond the bound
    assert (lowest[0, 0], highest[0, 0]) == (pytest.approx(0.5, abs=1e-4), 1.0)
    assert covered(lowest, highest, 0.5)[0, 0] == pytest.approx(0.5, abs=1e-3)
    low, high = pit_ranges(distribution, -torch.ones(1, 1))
    assert low[0, 0] == 0.0
    assert high[0, 0] < 1e-6
    inside_low, inside_high = pit_ranges(distribution, torch.zeros(1, 1))
    assert inside_low == inside_high


def test_shares_of_points_and_ranges() -> None:
    lowest, highest = np.array([0.3, 0.2, 0.0]), np.array([0.3, 0.6, 1.0])
    np.testing.assert_allclose(share_below(lowest, highest, 0.5), [1.0, 0.75, 0.5])
    np.testing.assert_allclose(share_below(lowest, highest, 0.3), [0.0, 0.25, 0.3])
    assert pit_histogram(lowest, highest, 4).sum() == pytest.approx(1.0)
