"""Action scaling: a round trip, the bounds themselves, and the identity where bounds are -1 and 1."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from m3pc_ray.environments.actions import to_environment_range, to_model_range


@settings(max_examples=50, deadline=None)
@given(st.floats(-20, 20), st.floats(0.1, 20), st.integers(0, 2**31))
@example(low=-7.75, span=8.09887172241865, seed=0)
def test_round_trip_and_bounds(low: float, span: float, seed: int) -> None:
    lows, highs = np.full(4, low, np.float32), np.full(4, low + span, np.float32)
    actions = np.random.default_rng(seed).uniform(lows, highs, (7, 4)).astype(np.float32)
    model = to_model_range(actions, lows, highs)
    assert model.dtype == np.float32
    np.testing.assert_allclose(model, 2 * (actions - low) / span - 1, atol=1e-2)
    np.testing.assert_allclose(to_environment_range(model, lows, highs), actions, atol=1e-4 * (abs(low) + span))
    rounding = 1e-6 * (abs(low) + span)  # of float32 at the size of the bounds, however near to 0 one of them lies
    for end, bounds in ((1.0, highs), (-1.0, lows)):
        reached = to_environment_range(np.full((1, 4), end), lows, highs)[0]
        np.testing.assert_allclose(reached, bounds, rtol=0, atol=rounding)


def test_known_values() -> None:
    low, high = np.array([-2.0, 0.0]), np.array([2.0, 10.0])
    np.testing.assert_allclose(to_model_range([[0.0, 7.5]], low, high), [[0.0, 0.5]])
    np.testing.assert_allclose(to_environment_range([[0.5, -1.0]], low, high), [[1.0, 0.0]])


def test_identity_at_unit_bounds_keeps_every_bit() -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (100, 3)).astype(np.float32)
    np.testing.assert_array_equal(to_model_range(actions, -np.ones(3), np.ones(3)), actions)
    np.testing.assert_array_equal(to_environment_range(actions, -np.ones(3), np.ones(3)), actions)
