"""Measures of tracking against a plain loop over entries, and episodes that end early."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m3pc_ray.evaluation.reaching.measures import key_error, measure_episode, tracking_error, waypoints_visited


def plain_error(reached: np.ndarray, wanted: np.ndarray, std: np.ndarray, dimensions: list[int]) -> float:
    squares = []
    for step in range(len(wanted)):
        state = reached[step] if step < len(reached) else reached[-1]
        for dimension in dimensions:
            if not math.isnan(wanted[step, dimension]):
                squares.append(
                    ((float(state[dimension]) - float(wanted[step, dimension])) / float(std[dimension])) ** 2
                )
    return math.sqrt(sum(squares) / len(squares))


@pytest.mark.parametrize("seed", range(6))
def test_errors_against_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    planned, dimension = int(rng.integers(5, 60)), int(rng.integers(1, 7))
    reached = rng.normal(size=(int(rng.integers(1, planned + 2)), dimension)).astype(np.float32)
    wanted = rng.normal(size=(planned + 1, dimension)).astype(np.float32)
    wanted[rng.random(wanted.shape) < 0.6] = np.nan
    wanted[3] = 0.5
    std = rng.uniform(0.2, 3.0, dimension).astype(np.float32)
    measured = measure_episode(reached, wanted, std, dimension - 1, tolerance=1.2)
    everything = list(range(dimension))
    assert measured["tracking_error"] == pytest.approx(plain_error(reached, wanted, std, everything), rel=1e-5)
    assert measured["key_error"] == pytest.approx(plain_error(reached, wanted, std, [dimension - 1]), rel=1e-5)
    assert measured["length"] == len(reached) - 1
    visited = total = 0
    for step in range(planned + 1):
        if np.isnan(wanted[step]).all():
            continue
        total += 1
        if step < len(reached):
            visited += plain_error(reached[step : step + 1], wanted[step : step + 1], std, everything) <= 1.2
    assert measured["waypoints_visited"] == pytest.approx(visited / total)


def test_falling_early_is_standing_still_and_visits_nothing_more() -> None:
    wanted = np.linspace(0.0, 10.0, 11, dtype=np.float32)[:, np.newaxis]
    std = np.ones(1, dtype=np.float32)
    whole, fallen = wanted.copy(), wanted[:3]
    still = np.concatenate([fallen, np.repeat(fallen[-1:], 8, axis=0)])
    assert tracking_error(whole, wanted, std) == 0.0
    assert tracking_error(fallen, wanted, std) == tracking_error(still, wanted, std) > 0.0
    assert waypoints_visited(fallen, wanted, std) == pytest.approx(3 / 11)
    assert waypoints_visited(np.full_like(fallen, 10.0), wanted, std) == 0.0, "held poses reach nothing after the end"


def test_nothing_wanted_is_nan() -> None:
    reached = np.zeros((4, 2), dtype=np.float32)
    nothing = np.full((4, 2), np.nan, dtype=np.float32)
    std = np.ones(2, dtype=np.float32)
    measured = measure_episode(reached, nothing, std, 0)
    assert all(math.isnan(measured[name]) for name in ("tracking_error", "key_error", "waypoints_visited"))
    nothing[2, 1] = 3.0
    assert math.isnan(key_error(reached, nothing, std, 0))
    assert key_error(reached, nothing, std, 1) == tracking_error(reached, nothing, std) == 3.0


def test_shapes_that_do_not_fit() -> None:
    std = np.ones(2, dtype=np.float32)
    with pytest.raises(ValueError, match="do not fit"):
        tracking_error(np.zeros((5, 2), np.float32), np.zeros((4, 2), np.float32), std)
    with pytest.raises(ValueError, match="do not fit"):
        waypoints_visited(np.zeros((4, 3), np.float32), np.zeros((4, 2), np.float32), std)
