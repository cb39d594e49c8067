from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from m3pc_ray.environments.observation_names import observation_names
from m3pc_ray.errors import UserError
from m3pc_ray.goals import spacing
from m3pc_ray.goals.spacing import coverage_warnings, reachable_changes, spacing_warnings
from m3pc_ray.goals.waypoints import Waypoints
from m3pc_ray.trajectories.episodes import Trajectories
from tests.trajectories.factory import OBSERVATION_DIM, make_trajectories

NAMES = observation_names("Hopper-v4", OBSERVATION_DIM)


def all_changes(trajectories: Trajectories, span: int) -> np.ndarray:
    """(pairs, observation_dim), by two plain loops."""
    starts, changes = trajectories.episode_starts, []
    for start, end in zip(starts[:-1], starts[1:], strict=True):
        for row in range(start, end - span):
            changes.append(np.abs(trajectories.observations[row + span] - trajectories.observations[row]))
    return np.array(changes)


def ramps(episodes: int = 12, length: int = 101) -> Trajectories:
    """Every episode rises by 0.1 a step in all dimensions, each from an origin far from the others'."""
    made = make_trajectories([length] * episodes)
    rise = np.arange(length)[:, None] * 0.1 + np.zeros(OBSERVATION_DIM)
    observations = np.concatenate([rise + 1000.0 * episode for episode in range(episodes)])
    return dataclasses.replace(made, observations=observations.astype(np.float32))


def waypoints_at(steps: list[int], states: np.ndarray) -> Waypoints:
    return Waypoints(np.array(steps, dtype=np.int64), states.astype(np.float32), "a test")


def only(index: int, values: list[float]) -> np.ndarray:
    states = np.full((len(values), OBSERVATION_DIM), np.nan)
    states[:, index] = values
    return states


@pytest.mark.parametrize("span", [1, 3, 40])
def test_percentiles_are_those_of_all_pairs(span: int) -> None:
    trajectories = make_trajectories([500, 41, 700, 1, 40], seed=span)
    expected = np.percentile(all_changes(trajectories, span), 99.9, axis=0)
    np.testing.assert_allclose(reachable_changes(trajectories, [span])[span], expected, rtol=1e-6)


def test_no_pair_crosses_an_episode() -> None:
    changes = reachable_changes(ramps(), [1, 10, 100])
    assert sorted(changes) == [1, 10]  # 12 pairs are 100 steps apart: too few for a 99.9th percentile
    for span, limit in changes.items():
        np.testing.assert_allclose(limit, 0.1 * span, atol=1e-3)


def test_spans_longer_than_the_data_are_left_out() -> None:
    trajectories = make_trajectories([600, 600])
    assert sorted(reachable_changes(trajectories, [2, 599, 600, 5000])) == [2]
    with pytest.raises(ValueError, match="span of 0"):
        reachable_changes(trajectories, [0])


def test_a_sample_is_seeded_and_near_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    trajectories = make_trajectories([4000] * 5)
    whole = reachable_changes(trajectories, [2])[2]
    monkeypatch.setattr(spacing, "MOST_PAIRS", 5000)
    sample = reachable_changes(trajectories, [2, 3], seed=1)[2]
    assert not np.array_equal(sample, whole)
    np.testing.assert_array_equal(sample, reachable_changes(trajectories, [2], seed=1)[2])
    assert not np.array_equal(sample, reachable_changes(trajectories, [2], seed=2)[2])
    np.testing.assert_allclose(sample, whole, rtol=0.3)


def test_too_large_a_step_is_told_with_its_numbers() -> None:
    waypoints = waypoints_at([5, 10, 15], only(2, [0.0, 0.4, 1.3]))
    (message,) = spacing_warnings(waypoints, ramps(), NAMES)
    assert message == (
        "waypoints 2 to 3: thigh_joint changes by 0.9 rad in 5 steps; "
        "99.9 % of the data's changes in 5 steps are below 0.5 rad"
    )


def test_many_bad_pairs_are_one_message_about_the_worst() -> None:
    values = np.cumsum(np.where(np.arange(200) == 77, 5.0, 1.0))
    states = only(2, values.tolist())
    states[:, 0] = np.arange(200) * 0.05  # fine
    (message,) = spacing_warnings(waypoints_at(list(range(1, 201)), states), ramps(), NAMES)
    assert message.startswith("waypoints 77 to 78: thigh_joint changes by 5 rad in 1 step;")
    assert message.endswith("(the worst of 199 such pairs)")


def test_the_worst_is_relative_to_its_own_span() -> None:
    waypoints = waypoints_at([1, 2, 22], only(2, [0.0, 1.0, 6.0]))  # 10 times, then 2.5 times the data's
    (message,) = spacing_warnings(waypoints, ramps(), NAMES)
    assert message.startswith("waypoints 1 to 2:")


def test_only_dimensions_fixed_in_both_are_compared() -> None:
    states = only(2, [0.0, np.nan, 50.0])
    states[1, 3] = 50.0
    assert spacing_warnings(waypoints_at([1, 2, 3], states), ramps(), NAMES) == []


def test_no_statement_where_the_data_has_none() -> None:
    assert spacing_warnings(waypoints_at([1, 501], only(2, [0.0, 1e6])), ramps(), NAMES) == []
    assert spacing_warnings(waypoints_at([4], only(2, [1e6])), ramps(), NAMES) == []


def test_a_dimension_that_never_changes_in_the_data() -> None:
    still = ramps()
    observations = still.observations.copy()
    observations[:, 2] = 1.0
    still = dataclasses.replace(still, observations=observations)
    (message,) = spacing_warnings(waypoints_at([1, 2], only(2, [1.0, 1.1])), still, NAMES)
    assert message.endswith("are below 0 rad")


def test_dimensions_must_agree() -> None:
    waypoints = waypoints_at([1], np.zeros((1, 4)))
    with pytest.raises(UserError, match="waypoints have 4 dimensions, the observations of synthetic have 11"):
        spacing_warnings(waypoints, ramps(), NAMES)


@pytest.mark.parametrize(
    ("steps", "time_limit", "expected"),
    [
        ([50, 95, 100], 100, []),
        ([50, 92], 100, []),
        ([50, 91], 100, []),
        ([50, 100, 101], 100, ["waypoint 3 is due after the environment's time limit of 100 steps"]),
        ([50, 99, 101, 110], 100, ["waypoints 3 to 4 are due after the environment's time limit of 100 steps"]),
        ([97], 100, ["only one waypoint is due within the time limit of 100 steps, at step 97"]),
        ([97, 200], 100, ["waypoint 2 is due after", "only one waypoint is due within"]),
        ([5], 0, []),
    ],
)
def test_coverage(steps: list[int], time_limit: int, expected: list[str]) -> None:
    waypoints = waypoints_at(steps, np.zeros((len(steps), 2)))
    messages = coverage_warnings(waypoints, time_limit)
    assert len(messages) == len(expected)
    for message, start in zip(messages, expected, strict=True):
        assert message.startswith(start)


def test_no_waypoint_within_the_time_limit() -> None:
    with pytest.raises(UserError, match=r"a test: the first waypoint is due at step 101, .* limit of 100 steps"):
        coverage_warnings(waypoints_at([101, 102], np.zeros((2, 2))), 100)
