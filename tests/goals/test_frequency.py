"""The dominant frequency against sinusoids and against the best sinusoid by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m3pc_ray.goals.frequency import dominant_frequency, dominant_oscillation


def best_sinusoid(values: np.ndarray, dt: float) -> float:
    """The frequency whose sinusoid with a constant has the smallest squared error, of 3000 tried."""
    time = np.arange(len(values)) * dt
    tried = np.linspace(1 / (len(values) * dt), 0.45 / dt, 3000)

    def error(frequency: float) -> float:
        basis = np.stack(
            [np.sin(2 * np.pi * frequency * time), np.cos(2 * np.pi * frequency * time), np.ones_like(time)]
        )
        return float(np.square(values - basis.T @ np.linalg.lstsq(basis.T, values, rcond=None)[0]).sum())

    return float(tried[np.argmin([error(frequency) for frequency in tried])])


@pytest.mark.parametrize("seed", range(6))
def test_finds_a_noisy_sinusoid_as_brute_force_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dt, count = 0.008, int(rng.integers(120, 500))
    frequency = rng.uniform(2.5, 12.0) / (count * dt)
    size = rng.uniform(0.1, 3.0)
    time = np.arange(count) * dt
    values = (
        5.0 + size * np.sin(2 * np.pi * frequency * time + rng.uniform(0, 6.28)) + 0.3 * size * rng.normal(size=count)
    )
    found, amplitude = dominant_oscillation(values, dt)
    assert found == pytest.approx(frequency, rel=0.04)
    assert found == pytest.approx(best_sinusoid(values, dt), rel=0.04)
    assert amplitude == pytest.approx(size, rel=0.15)


def test_a_plain_sinusoid_is_exact_at_any_phase_from_two_periods_on() -> None:
    for periods in (2.0, 2.5, 3.3, 7.7):
        for phase in np.linspace(0, 2 * np.pi, 9):
            values = np.sin(2 * np.pi * periods * np.arange(200) / 200 + phase)
            assert dominant_frequency(values, 0.01) == pytest.approx(periods / 2.0, rel=0.05)


def test_the_stronger_of_two_wins_and_the_unit_of_values_does_not_matter() -> None:
    time = np.arange(400) * 0.01
    values = np.sin(2 * np.pi * 1.5 * time) + 0.6 * np.sin(2 * np.pi * 6.0 * time)
    assert dominant_frequency(values, 0.01) == pytest.approx(1.5, rel=0.02)
    assert dominant_frequency(1e-3 * values, 0.01) == pytest.approx(dominant_frequency(values, 0.01), rel=1e-6)
    assert dominant_frequency(values - 1.4 * np.sin(2 * np.pi * 1.5 * time), 0.01) == pytest.approx(6.0, rel=0.02)


@pytest.mark.parametrize(
    "values", [np.full(100, 0.1), np.zeros(50), np.arange(5.0), np.r_[np.sin(np.arange(50)), np.nan]]
)
def test_nothing_to_find(values: np.ndarray) -> None:
    assert math.isnan(dominant_frequency(values, 0.01))


def test_the_fastest_oscillation_there_is() -> None:
    assert dominant_frequency(np.where(np.arange(64) % 2, 1.0, -1.0), 0.01) == pytest.approx(50.0, rel=0.01)
