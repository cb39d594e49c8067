"""Search spaces: every combination once, draws within their bounds and the same for every grid point."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.space import combinations, read_axis


def axis(name: str, described: object):  # type: ignore[no-untyped-def]
    return read_axis(name, described, "test")


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(1, 900), min_size=1, max_size=4, unique=True),
    st.integers(1, 5),
    st.integers(0, 2**31),
)
def test_grid_times_draws(lambdas: list[float], counts: list[int], samples: int, seed: int) -> None:
    space = {
        "planner.td_lambda": axis("planner.td_lambda", lambdas),
        "online.btm_learning_rate": axis("online.btm_learning_rate", {"log_uniform": [1e-5, 1e-2]}),
        "planner.num_candidates": axis("planner.num_candidates", {"grid": counts}),
    }
    found = combinations(space, samples, seed)
    assert found == combinations(space, samples, seed)
    assert len(found) == len(lambdas) * len(counts) * samples
    assert all(list(settings) == list(space) for settings in found)
    points = {(settings["planner.td_lambda"], settings["planner.num_candidates"]) for settings in found}
    assert points == {(a, b) for a in lambdas for b in counts}
    rates = {
        point: [
            s["online.btm_learning_rate"]
            for s in found
            if (s["planner.td_lambda"], s["planner.num_candidates"]) == point
        ]
        for point in points
    }
    assert len({tuple(drawn) for drawn in rates.values()}) == 1  # compared on equal terms
    assert all(1e-5 <= rate <= 1e-2 for drawn in rates.values() for rate in drawn)


def test_draws_are_spread_as_asked() -> None:
    space = {
        "online.btm_learning_rate": axis("online.btm_learning_rate", {"log_uniform": [1e-6, 1e-2]}),
        "planner.num_candidates": axis("planner.num_candidates", {"uniform": [2, 5]}),
        "planner.guide": axis("planner.guide", {"choice": ["return", "critic"]}),
    }
    found = combinations(space, 4000, seed=1)
    decades = [math.floor(math.log10(settings["online.btm_learning_rate"])) for settings in found]
    assert all(abs(decades.count(decade) - 1000) < 150 for decade in (-6, -5, -4, -3))  # 5 standard deviations
    counts = [settings["planner.num_candidates"] for settings in found]
    assert set(counts) == {2, 3, 4, 5}  # both ends, whole numbers
    assert all(type(count) is int and abs(counts.count(count) - 1000) < 150 for count in set(counts))
    assert abs([settings["planner.guide"] for settings in found].count("critic") - 2000) < 160


@pytest.mark.parametrize(
    ("name", "described", "scale"),
    [
        ("planner.td_lambda", [0, 0.1, 0.3], "linear"),
        ("planner.td_lambda", {"uniform": [0.1, 1]}, "linear"),
        ("planner.utility_sharpness_critic", [0.18, 0.36, 0.72, 1.44], "log"),
        ("online.btm_learning_rate", {"log_uniform": [1e-5, 1e-3]}, "log"),
        ("planner.num_candidates", [16, 64, 256], "log"),
        ("planner.horizon", [1, 2], "linear"),
        ("planner.guide", ["return", "critic"], "category"),
        ("pretrain.entropy_constraint", ["true", "false"], "category"),
        ("pretrain.entropy_target", ["none", -3], "category"),
    ],
)
def test_scale(name: str, described: object, scale: str) -> None:
    assert axis(name, described).scale == scale
