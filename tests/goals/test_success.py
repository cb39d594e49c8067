"""Success against step-by-step oracles, and the cases at the edges."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.goals.success import (
    BeyondData,
    DominantFrequency,
    HalfTurn,
    Success,
    VisitsWaypoints,
    data_percentile,
    waypoint_errors,
)
from m3pc_ray.goals.waypoints import Waypoints
from tests.trajectories.factory import make_trajectories


def states(values: Any, dimension: int = 1, size: int = 3) -> np.ndarray:
    """(n, size) zeros with `values` in one dimension."""
    reached = np.zeros((len(values), size), dtype=np.float32)
    reached[:, dimension] = values
    return reached


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("direction", [-1, 0, 1])
def test_half_turn_against_going_step_by_step(seed: int, direction: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(40):
        angle = np.float32(0.3 + np.cumsum(rng.normal(0.0, 0.7, int(rng.integers(1, 60)))))
        terminated, needed = bool(rng.integers(2)), int(rng.integers(0, 12))
        turned_at = None
        for step, value in enumerate(angle):
            if terminated and step == len(angle) - 1:
                break
            change = float(value) - float(angle[0])
            if (abs(change) if direction == 0 else direction * change) >= math.pi:
                turned_at = step
                break
        after = -1 if turned_at is None else len(angle) - 1 - int(terminated) - turned_at
        success = HalfTurn(1, needed, direction=direction)
        assert success.succeeded(states(angle), terminated, 0.05) == (turned_at is not None and after >= needed)
        details = success.details(states(angle), terminated, 0.05)
        assert details["alive_steps_after"] == after or (turned_at is None and math.isnan(details["turned_at_step"]))


def test_a_turn_must_be_survived() -> None:
    angle = [0.0, 2.0, 3.2, 3.2, 3.2]  # two steps after the turn
    assert HalfTurn(1, 2).succeeded(states(angle), False, 0.05)
    assert not HalfTurn(1, 3).succeeded(states(angle), False, 0.05), "the episode is not long enough to say"
    assert not HalfTurn(1, 2).succeeded(states(angle), True, 0.05), "the last state is terminal"
    assert HalfTurn(1, 1).succeeded(states(angle), True, 0.05)
    assert not HalfTurn(1, 0, direction=-1).succeeded(states(angle), False, 0.05)
    assert not HalfTurn(1, 0).succeeded(states([0.0, 4.0]), True, 0.05)
    assert not HalfTurn(1, 0).succeeded(states([7.0]), False, 0.05), "a change is counted, not the value"


@pytest.mark.parametrize("direction", [-1, 1])
def test_beyond_the_data_against_counting(direction: int) -> None:
    rng = np.random.default_rng(direction + 1)
    for _ in range(100):
        values = np.float32(rng.normal(size=int(rng.integers(1, 40))))
        terminated, hold = bool(rng.integers(2)), int(rng.integers(1, 5))
        longest = run = 0
        for value in values[: len(values) - terminated]:
            run = run + 1 if direction * value > direction * 0.2 else 0
            longest = max(longest, run)
        success = BeyondData(1, 0.2, direction, hold)
        assert success.details(states(values), terminated, 0.1)["longest_hold_steps"] == longest
        assert success.succeeded(states(values), terminated, 0.1) == (longest >= hold)
        farthest = values.max() if direction > 0 else values.min()
        assert success.details(states(values), terminated, 0.1)["farthest_value"] == pytest.approx(float(farthest))


def test_percentile_of_the_data() -> None:
    data = make_trajectories([400, 700])
    ordered = np.sort(data.observations[:, 2].astype(np.float64))
    assert 1 <= (ordered > data_percentile(data, 2, 1)).sum() <= 2, "0.1 % of 1100"
    assert 1 <= (ordered < data_percentile(data, 2, -1)).sum() <= 2
    assert data_percentile(data, 2, 1, 100.0) == ordered[-1]
    assert data_percentile(data, 2, -1, 100.0) == ordered[0]
    for wrong in ({"dimension": 11, "direction": 1}, {"dimension": 0, "direction": 0}):
        with pytest.raises(UserError, match="dimension is 11|direction is 0"):
            data_percentile(data, **wrong)
    with pytest.raises(UserError, match="percentile is 101"):
        data_percentile(data, 0, 1, 101)


def test_dominant_frequency_is_within_its_tolerance() -> None:
    time = np.arange(300) * 0.008
    for asked, found, right in (
        (2.0, 2.0, True),
        (2.0, 2.15, True),
        (2.0, 1.85, True),
        (2.0, 2.3, False),
        (2.0, 1.7, False),
    ):
        reached = states(0.4 * np.sin(2 * np.pi * found * time + 1.0))
        success = DominantFrequency(1, asked)
        assert success.succeeded(reached, False, 0.008) is right, found
        details = success.details(reached, False, 0.008)
        assert details["dominant_frequency_hz"] == pytest.approx(found, rel=0.02)
        assert details["amplitude"] == pytest.approx(0.4, rel=0.05)


def test_a_short_or_constant_signal_has_no_frequency() -> None:
    values = np.sin(2 * np.pi * 2.0 * np.arange(300) * 0.008)
    success = DominantFrequency(1, 2.0, from_step=100)
    assert success.succeeded(states(values), False, 0.008)
    assert success.succeeded(states(values[:225]), False, 0.008), "two periods are 125 steps"
    assert not success.succeeded(states(values[:225]), True, 0.008), "the terminal state does not count"
    assert not success.succeeded(states(values[:90]), True, 0.008), "ended before the measurement began"
    assert not success.succeeded(states(np.zeros(300)), False, 0.008)
    noisy = values.copy()
    noisy[:100] = 5.0 * np.sin(2 * np.pi * 9.0 * np.arange(100) * 0.008)
    assert success.succeeded(states(noisy), False, 0.008), "what comes before from_step does not matter"
    with pytest.raises(UserError, match="frequency_hz is 60"):
        DominantFrequency(1, 60.0).succeeded(states(values), False, 0.008)


def plain_errors(reached: np.ndarray, steps: np.ndarray, wanted: np.ndarray, std: np.ndarray) -> list[float]:
    errors = []
    for step, row in zip(steps, wanted, strict=True):
        if step >= len(reached):
            errors.append(math.inf)
            continue
        squares = [((reached[step, d] - row[d]) / std[d]) ** 2 for d in range(len(row)) if not math.isnan(row[d])]
        errors.append(math.sqrt(sum(squares) / len(squares)))
    return errors


@pytest.mark.parametrize("seed", range(5))
def test_visits_against_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reached = rng.normal(size=(30, 4)).astype(np.float32)
    std = rng.uniform(0.3, 2.0, 4).astype(np.float32)
    steps = np.sort(rng.choice(np.arange(1, 45), 12, replace=False))
    wanted = rng.normal(size=(12, 4)).astype(np.float32)
    wanted[rng.random((12, 4)) < 0.4] = np.nan
    wanted[:, 0] = 0.5
    expected = plain_errors(reached, steps, wanted, std)
    np.testing.assert_allclose(waypoint_errors(reached, steps, wanted, std), expected, rtol=1e-5)
    waypoints = Waypoints(steps, wanted, "test")
    near = float(np.mean(np.array(expected) <= 1.0))
    success = VisitsWaypoints(waypoints, std, tolerance=1.0, fraction=max(near, 1e-3))
    assert success.details(reached, False, 0.1)["waypoints_visited"] == pytest.approx(near)
    assert success.succeeded(reached, False, 0.1) == (near > 0)
    assert not dataclasses.replace(success, fraction=min(1.0, near + 0.05)).succeeded(reached, False, 0.1)


def test_one_waypoint_after_the_end_is_not_visited() -> None:
    waypoints = Waypoints(np.array([5]), states([1.0]), "test")
    success = VisitsWaypoints(waypoints, np.ones(3, np.float32))
    assert success.succeeded(states(np.linspace(0, 1, 6)), False, 0.1)
    short = states(np.ones(5))
    assert not success.succeeded(short, True, 0.1)
    assert math.isnan(success.details(short, True, 0.1)["last_waypoint_error"])


def test_sentences_state_the_numbers() -> None:
    waypoints = Waypoints(np.array([5, 9]), states([1.0, 2.0]), "test")
    kinds: list[tuple[Success, list[str]]] = [
        (HalfTurn(1, 12, direction=-1, name="the front tip's angle"), ["front tip", "3.142", "12 steps", "downwards"]),
        (BeyondData(2, -1.25, -1, 7), ["observation 2", "below -1.25", "7 consecutive"]),
        (DominantFrequency(4, 2.0, from_step=30), ["step 30", "1.8", "2.2 Hz", "2 periods"]),
        (VisitsWaypoints(waypoints, np.ones(3, np.float32), 0.5, 0.8), ["80%", "2 waypoints", "0.5 standard"]),
    ]
    for success, parts in kinds:
        sentence = success.describe()
        assert all(part in sentence for part in parts), sentence
        assert "\n" not in sentence


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: HalfTurn(1, 5, direction=2), "direction is 2; it is -1, 0 or 1"),
        (lambda: HalfTurn(1, -1), "alive_steps is -1"),
        (lambda: HalfTurn(1, 1, turn=0.0), "turn is 0"),
        (lambda: BeyondData(1, 0.0, 0, 5), "direction is 0; it is -1 or 1"),
        (lambda: BeyondData(1, 0.0, 1, 0), "hold_steps is 0"),
        (lambda: BeyondData(1, math.nan, 1, 1), "threshold is nan"),
        (lambda: DominantFrequency(1, 0.0), "frequency_hz is 0"),
        (lambda: DominantFrequency(1, 1.0, tolerance=1.5), "tolerance is 1.5"),
        (lambda: DominantFrequency(1, 1.0, periods=1.0), "periods is 1"),
        (lambda: DominantFrequency(1, 1.0, from_step=-1), "from_step is -1"),
        (lambda: HalfTurn(3, 1).succeeded(states([0.0]), False, 0.1), "dimension is 3; observations have 3 entries"),
    ],
)
def test_wrong_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
