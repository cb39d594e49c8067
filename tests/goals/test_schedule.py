from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3pc_ray.errors import UserError
from m3pc_ray.goals.schedule import GoalSchedule
from m3pc_ray.goals.waypoints import Waypoints

DIM = 3


def make_waypoints(steps: list[int], seed: int = 0, moving: Any = None) -> Waypoints:
    """Random states with some free dimensions; the first dimension of each is always fixed."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(len(steps), DIM)).astype(np.float32)
    free = rng.random(states.shape) < 0.4
    free[:, 0] = False
    states[free] = np.nan
    return Waypoints(np.array(steps, dtype=np.int64), states, "a test", moving)


def walk(schedule: GoalSchedule, steps: int, row: int = 0) -> None:
    """Advances through `steps` observations, far from every goal."""
    for _ in range(steps):
        schedule.advance(row, np.full(DIM, 100.0))


def rising(draw: st.DrawFn, most: int = 12) -> list[int]:
    gaps = draw(st.lists(st.integers(1, 9), min_size=1, max_size=most))
    return np.cumsum(gaps).tolist()


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    segment_length = draw(st.integers(2, 10))
    return {
        "steps": rising(draw),
        "segment_length": segment_length,
        "position": draw(st.integers(0, segment_length - 2)),
        "slot": draw(st.sampled_from(["last", "due"])),
        "seed": draw(st.integers(0, 1000)),
    }


@given(case=cases())
def test_shown_goals_are_those_of_a_brute_force_search(case: dict[str, Any]) -> None:
    waypoints = make_waypoints(case["steps"], case["seed"])
    schedule = GoalSchedule(waypoints, 1, np.ones(DIM), slot=case["slot"])
    t, last = case["position"], case["segment_length"] - 1
    for step in range(case["steps"][-1] + 3):
        walk(schedule, 1)
        goals = schedule.goals([0], [t], case["segment_length"])
        still_to_come = [k for k, due in enumerate(case["steps"]) if due > step]
        inside = [k for k in still_to_come if t + case["steps"][k] - step <= last]
        if case["slot"] == "due" and inside:
            expected = [(k, t + case["steps"][k] - step) for k in inside]
        else:
            expected = [(still_to_come[0] if still_to_come else len(case["steps"]) - 1, last)]
        assert goals.slots[0].tolist() == [slot for _, slot in expected]
        assert ((goals.slots > t) & (goals.slots <= last)).all()
        np.testing.assert_array_equal(goals.states[0], waypoints.states[[k for k, _ in expected]])


def test_the_picture_in_the_module() -> None:
    steps = [19, 20, 25]
    last = GoalSchedule(make_waypoints(steps), 1, np.ones(DIM), slot="last")
    due = GoalSchedule(make_waypoints(steps), 1, np.ones(DIM), slot="due")
    for schedule in (last, due):
        walk(schedule, 18)
    assert last.goals([0], [4], 8).slots.tolist() == [[7]]
    assert due.goals([0], [4], 8).slots.tolist() == [[6, 7]]
    for schedule in (last, due):
        walk(schedule, 3)  # now at step 20
        goals = schedule.goals([0], [4], 8)
        assert goals.slots.tolist() == [[7]]
        np.testing.assert_array_equal(goals.states[0, 0], schedule.waypoints.states[2])
    walk(due, 3)  # step 23: due in 2
    assert due.goals([0], [4], 8).slots.tolist() == [[6]]


def test_a_batch_is_padded_and_keeps_the_order_of_its_rows() -> None:
    schedule = GoalSchedule(make_waypoints([2, 4, 9]), 3, np.ones(DIM), slot="due")
    walk(schedule, 1, row=0)
    walk(schedule, 4, row=2)
    goals = schedule.goals([2, 0], [3, 0], 8)
    assert goals.states.shape == (2, 2, DIM)
    assert goals.slots.tolist() == [[4, -1], [2, 4]]  # step 3: the one of step 4; step 0: those of steps 2 and 4
    np.testing.assert_array_equal(goals.states[0, 0], schedule.waypoints.states[1])
    assert np.isnan(goals.states[0, 1]).all()
    np.testing.assert_array_equal(goals.states[1], schedule.waypoints.states[:2])


@pytest.mark.parametrize("missed", ["move_on", "wait"])
@given(steps=st.composite(rising)(), wait_steps=st.integers(0, 4), seed=st.integers(0, 1000))
def test_waiting_equals_a_plain_simulation(missed: Any, steps: list[int], wait_steps: int, seed: int) -> None:
    """One waypoint after another, written as a loop over waypoints instead of steps."""
    waypoints = make_waypoints(steps, seed)
    std = np.array([0.5, 1.0, 2.0])
    rng = np.random.default_rng(seed)
    length = steps[-1] + wait_steps * len(steps) + 2
    observations = rng.normal(size=(length, DIM)).astype(np.float32)

    def near(state: np.ndarray, seen: np.ndarray) -> bool:
        return bool(np.sqrt(np.nanmean(((seen - state) / std) ** 2)) <= 1.0)

    due, delay, missed_count = [], 0, 0
    for step, state in zip(steps, waypoints.states, strict=True):
        arrival, waits = step + delay, wait_steps if missed == "wait" else 0
        reached = [near(state, observations[arrival + late]) for late in range(waits + 1)]
        late = reached.index(True) if any(reached) else waits
        missed_count += not any(reached)
        delay += late
        due.append(step + delay)

    schedule = GoalSchedule(waypoints, 1, std, missed=missed, tolerance=1.0, wait_steps=wait_steps)
    seen_due = {}
    for step, observation in enumerate(observations):
        schedule.advance(0, observation)
        assert schedule.steps.tolist() == [step]
        wanted = schedule.wanted(0)
        if not np.isnan(wanted).all():
            seen_due[step] = wanted
    assert sorted(seen_due) == due
    for state, step in zip(waypoints.states, due, strict=True):
        np.testing.assert_array_equal(seen_due[step], state)
    assert schedule.delays.tolist() == [delay]
    assert schedule.missed.tolist() == [missed_count]
    assert delay <= wait_steps * len(steps)


def test_a_reset_forgets_delays_and_leaves_other_rows_alone() -> None:
    schedule = GoalSchedule(make_waypoints([1, 3]), 2, np.ones(DIM), missed="wait", wait_steps=2)
    for row in (0, 1):
        walk(schedule, 6, row=row)
    assert schedule.delays.tolist() == [3, 3]  # two steps for the first; one so far for the second, due at 5
    assert schedule.missed.tolist() == [1, 1]
    schedule.reset(1)
    assert schedule.delays.tolist() == [3, 0]
    assert schedule.missed.tolist() == [1, 0]
    assert schedule.steps.tolist() == [5, -1]
    with pytest.raises(ValueError, match="advance"):
        schedule.goals([1], [0], 8)
    walk(schedule, 1, row=1)
    np.testing.assert_array_equal(schedule.goals([1], [0], 8).states[0, 0], schedule.waypoints.states[0])


def test_free_dimensions_do_not_count_towards_being_reached() -> None:
    states = np.array([[1.0, np.nan, 3.0]], dtype=np.float32)
    waypoints = Waypoints(np.array([1]), states, "a test")
    for observation, missed in (([1.0, 99.0, 3.0], 0), ([1.5, 0.0, 3.0], 0), ([1.0, 99.0, 4.0], 1)):
        schedule = GoalSchedule(waypoints, 1, [1.0, 1.0, 0.5], tolerance=1.0)
        schedule.advance(0, np.zeros(DIM))
        schedule.advance(0, observation)
        assert schedule.missed.tolist() == [missed]  # the last: 2 std in one of two dimensions, sqrt(2) > 1


def test_wanted_between_waypoints() -> None:
    states = np.array([[0.0, 1.0, np.nan], [10.0, np.nan, 5.0]], dtype=np.float32)
    schedule = GoalSchedule(Waypoints(np.array([2, 6]), states, "a test"), 1, np.ones(DIM))
    nothing = [np.nan] * DIM
    exact = [nothing, nothing, states[0], nothing, nothing, nothing, states[1], nothing]
    line = [nothing, nothing, states[0], *([2.5 * n, np.nan, np.nan] for n in (1, 2, 3)), states[1], nothing]
    for step in range(8):
        walk(schedule, 1)
        np.testing.assert_allclose(schedule.wanted(0), exact[step], err_msg=str(step))
        np.testing.assert_allclose(schedule.wanted(0, interpolate=True), line[step], err_msg=str(step))


def test_drifting_goals_are_asked_for_where_they_are_now() -> None:
    calls = []

    def drift(step: int, observation: np.ndarray) -> np.ndarray:
        calls.append((step, observation.tolist()))
        states = np.full((2, DIM), np.nan)
        states[:, step % DIM] = step + observation[0]
        observation[:] = 777.0  # its own copy
        return states

    schedule = GoalSchedule(make_waypoints([2, 4], moving=drift), 2, np.ones(DIM), tolerance=0.1)
    seen = np.array([0.5, 0.0, 0.0], dtype=np.float32)
    for step in range(3):
        schedule.advance(1, seen)
        expected = np.full(DIM, np.nan)
        expected[step] = step + 0.5
        np.testing.assert_allclose(schedule.goals([1], [step], 8).states[0, 0], expected)
    assert calls == [(step, [0.5, 0.0, 0.0]) for step in range(3)]
    assert seen.tolist() == [0.5, 0.0, 0.0]
    np.testing.assert_allclose(schedule.wanted(1), [np.nan, np.nan, 2.5])  # due now
    assert schedule.missed.tolist() == [0, 1]  # measured against the drifted goal: 2.5 away
    schedule.reset(1)
    schedule.advance(1, seen)
    assert calls[-1][0] == 0


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.zeros((2, DIM + 1)), r"drift at step 0 returned shape \(2, 4\); \(2, 3\) is needed"),
        (np.full((2, DIM), np.inf), "drift at step 0: waypoint 1 is infinite in dimension 0"),
        (np.array([[1.0] * DIM, [np.nan] * DIM]), "drift at step 0: waypoint 2 fixes no dimension"),
        ("nonsense", "drift at step 0 failed"),
        (None, "drift at step 0"),
    ],
)
def test_drifting_goals_gone_wrong_name_the_function(returned: Any, message: str) -> None:
    def drift(step: int, observation: np.ndarray) -> Any:
        return returned

    schedule = GoalSchedule(make_waypoints([2, 4], moving=drift), 1, np.ones(DIM))
    with pytest.raises(UserError, match=message):
        schedule.advance(0, np.zeros(DIM))


def test_an_error_inside_a_drifting_goal_is_told() -> None:
    def drift(step: int, observation: np.ndarray) -> Any:
        raise ValueError("no such corner")

    schedule = GoalSchedule(make_waypoints([2], moving=drift), 1, np.ones(DIM))
    with pytest.raises(UserError, match=r"a test: moving goal .*drift at step 0 failed \(ValueError: no such corner\)"):
        schedule.advance(0, np.zeros(DIM))


def test_no_slot_behind_the_current_step() -> None:
    schedule = GoalSchedule(make_waypoints([2]), 1, np.ones(DIM))
    walk(schedule, 1)
    assert schedule.goals([0], [6], 8).slots.tolist() == [[7]]
    with pytest.raises(UserError, match="context_length of at most 6"):
        schedule.goals([0], [7], 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count is 0"),
        ({"slot": "first"}, "slot is 'first'; it must be last or due"),
        ({"missed": "cry"}, "missed is 'cry'; it must be move_on or wait"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"wait_steps": -1}, "wait_steps is -1"),
        ({"std": np.ones(DIM + 1)}, "waypoints have 3 dimensions, the standard deviations shape"),
        ({"std": [1.0, 0.0, 1.0]}, "not above 0"),
        ({"std": [1.0, np.nan, 1.0]}, "not above 0"),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        GoalSchedule(make_waypoints([2]), **({"count": 1, "std": np.ones(DIM)} | changes))
