"""Curves of several seeds against plain ways to compute them, on random series."""

from __future__ import annotations

import numpy as np
import pytest

from m3pc_ray.evaluation.statistics import bootstrap_interval
from m3pc_ray.report.page.seeds import MOST_POINTS, combine, last_of_each, thinned


def random_series(generator: np.random.Generator, points: int):
    x = np.sort(generator.choice(1000, points, replace=False)).astype(float)
    return x, generator.normal(size=points)


@pytest.mark.parametrize("seeds", [2, 3, 7])
def test_the_mean_stands_where_all_seeds_are(seeds: int) -> None:
    generator = np.random.default_rng()
    series = [random_series(generator, int(generator.integers(20, 60))) for _ in range(seeds)]
    curve = combine(series)
    first, last = max(x[0] for x, _ in series), min(x[-1] for x, _ in series)
    shared = sorted({step for x, _ in series for step in x if first <= step <= last})
    assert set(curve.x) <= set(shared)
    assert len(curve.x) == min(len(shared), MOST_POINTS)
    for place, step in enumerate(curve.x):
        values = [plain_interpolation(x, y, step) for x, y in series]
        assert curve.mean[place] == pytest.approx(np.mean(values))
        assert curve.low[place] == pytest.approx(min(values))
        assert curve.high[place] == pytest.approx(max(values))
    assert len(curve.seeds) == seeds


def plain_interpolation(x: np.ndarray, y: np.ndarray, at: float) -> float:
    before = max(place for place in range(len(x)) if x[place] <= at)
    if x[before] == at:
        return float(y[before])
    share = (at - x[before]) / (x[before + 1] - x[before])
    return float((1 - share) * y[before] + share * y[before + 1])


def test_an_interval_is_the_one_that_sweeps_and_evaluations_give() -> None:
    generator = np.random.default_rng()
    x = np.arange(4.0)
    values = generator.normal(size=(6, 4))
    curve = combine([(x, each) for each in values], band="interval")
    for place in range(4):
        assert (curve.low[place], curve.high[place]) == pytest.approx(bootstrap_interval(values[:, place]))


def test_one_seed_has_no_band() -> None:
    x = np.arange(3.0)
    curve = combine([(x, x**2)])
    assert curve.low is None
    assert curve.seeds == ()
    np.testing.assert_array_equal(curve.mean, x**2)


def test_seeds_without_a_step_in_common_have_no_mean() -> None:
    first, second = np.arange(3.0), np.arange(5.0, 8.0)
    curve = combine([(first, first), (second, second)])
    assert len(curve.x) == len(curve.mean) == 0
    assert len(curve.seeds) == 2


def test_thinning_keeps_the_mean_and_short_series() -> None:
    generator = np.random.default_rng()
    x, y = np.arange(4 * MOST_POINTS, dtype=float), generator.normal(size=4 * MOST_POINTS)
    thin = thinned((x, y))
    np.testing.assert_allclose(thin[1], y.reshape(-1, 4).mean(axis=1))
    np.testing.assert_allclose(thin[0], x.reshape(-1, 4).mean(axis=1))
    np.testing.assert_array_equal(thinned((x[:10], y[:10]))[1], y[:10])


def test_of_several_values_at_one_step_the_last_counts() -> None:
    x, y = last_of_each((np.array([0.0, 1, 1, 1, 2]), np.array([5.0, 6, 7, 8, 9])))
    np.testing.assert_array_equal(x, [0, 1, 2])
    np.testing.assert_array_equal(y, [5, 8, 9])
