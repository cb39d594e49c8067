"""When a goal counts as reached: one small class a kind of task, each with a sentence that states its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.errors import UserError
from m3pc_ray.goals.frequency import dominant_oscillation
from m3pc_ray.goals.waypoints import Waypoints
from m3pc_ray.trajectories.episodes import Trajectories

WAYPOINT_TOLERANCE = 0.5
"""Largest error of a waypoint that counts as visited: root mean square over its fixed dimensions, in standard
deviations of the data."""


class Success(Protocol):
    """What every kind of success answers about one episode.

    `reached` is (steps + 1, observation_dim), raw units, from the first observation to the last; `terminated` says that
    the task itself ended the episode at the last of them; `dt` is the time between two of them in seconds.
    """

    def succeeded(self, reached: NDArray[np.float32], terminated: bool, dt: float) -> bool:
        """Whether the episode reached the goal."""
        ...

    def details(self, reached: NDArray[np.float32], terminated: bool, dt: float) -> dict[str, float]:
        """Named numbers behind the answer, for a table; NaN where one does not exist."""
        ...

    def describe(self) -> str:
        """One sentence with the numbers that decide."""
        ...


@dataclass(frozen=True)
class HalfTurn:
    """An angle passes a half turn away from its first value, and the episode goes on.

    Raises:
        UserError: a setting that cannot be.
    """

    dimension: int
    """Entry of the observation that is the angle in rad, not wrapped at a full turn."""
    alive_steps: int
    """Steps that the episode must go on after the angle has passed, without terminating."""
    turn: float = math.pi
    """Change of the angle that counts, in rad."""
    direction: int = 0
    """+1: upwards, -1: downwards, 0: either way."""
    name: str = ""
    """What the sentence calls the angle; empty: its number."""

    def __post_init__(self) -> None:
        _check_direction(self.direction, "-1, 0 or 1", (-1, 0, 1))
        _check(self.alive_steps >= 0, f"alive_steps is {self.alive_steps}; it must not be negative")
        _check(self.turn > 0 and math.isfinite(self.turn), f"turn is {self.turn}; an angle above 0 (rad) is needed")

    def succeeded(self, reached: NDArray[np.float32], terminated: bool, dt: float) -> bool:
        details = self.details(reached, terminated, dt)
        return bool(details["alive_steps_after"] >= self.alive_steps)  # NaN, no half turn at all, is not

    def details(self, reached: NDArray[np.float32], terminated: bool, dt: float) -> dict[str, float]:
        """`largest_turn` (rad, in the direction asked), `turned_at_step`, `alive_steps_after` that step."""
        angle = _column(reached, self.dimension)
        change = (angle - angle[0]) * self.direction if self.direction else np.abs(angle - angle[0])
        alive = change[: _alive(reached, terminated)]
        passed = np.flatnonzero(alive >= self.turn)
        return {
            "largest_turn": float(change.max()),
            "turned_at_step": float(passed[0]) if len(passed) else math.nan,
            "alive_steps_after": float(len(alive) - 1 - passed[0]) if len(passed) else math.nan,
        }

    def describe(self) -> str:
        way = {-1: " downwards", 0: "", 1: " upwards"}[self.direction]
        return (
            f"{_name(self.name, self.dimension)} turns by {self.turn:.4g} rad or more{way} from its first value, and "
            f"the episode goes on for {self.alive_steps} steps after that"
        )


@dataclass(frozen=True)
class BeyondData:
    """A dimension goes beyond what the data has, and stays there for some steps.

    Raises:
        UserError: a setting that cannot be.
    """

    dimension: int
    """Entry of the observation."""
    threshold: float
    """Raw units; see `data_percentile`."""
    direction: int
    """+1: above the threshold, -1: below it."""
    hold_steps: int
    """Consecutive steps for which it must be beyond, a terminal state not counted."""
    name: str = ""
    """What the sentence calls the dimension; empty: its number."""

    def __post_init__(self) -> None:
        _check_direction(self.direction, "-1 or 1", (-1, 1))
        _check(self.hold_steps >= 1, f"hold_steps is {self.hold_steps}; at least 1 is needed")
        _check(math.isfinite(self.threshold), f"threshold is {self.threshold}; a number is needed")

    def succeeded(self, reached: NDArray[np.float32], terminated: bool, dt: float) -> bool:
        return self.details(reached, terminated, dt)["longest_hold_steps"] >= self.hold_steps

    def details(self, reached: NDArray[np.float32], terminated: bool, dt: float) -> dict[str, float]:
        """`farthest_value` (raw units, in the direction asked) and `longest_hold_steps`."""
        value = _column(reached, self.dimension)
        beyond = (self.direction * value > self.direction * self.threshold)[: _alive(reached, terminated)]
        return {
            "farthest_value": float(self.direction * (self.direction * value).max()),
            "longest_hold_steps": float(_longest_run(beyond)),
        }

    def describe(self) -> str:
        side = "above" if self.direction > 0 else "below"
        return (
            f"{_name(self.name, self.dimension)} is {side} {self.threshold:.4g} for {self.hold_steps} consecutive "
            "steps, with the episode still alive"
        )


def data_percentile(trajectories: Trajectories, dimension: int, direction: int, percentile: float = 99.9) -> float:
    """The value (raw units) that `percentile` % of the data's observations of a dimension do not go beyond.

    In direction -1 it is the mirror image: with the default, the 0.1th percentile.

    Raises:
        UserError: no such dimension, a direction other than -1 and 1, or a percentile outside 0 to 100.
    """
    _check_direction(direction, "-1 or 1", (-1, 1))
    _check(0.0 <= percentile <= 100.0, f"percentile is {percentile}; it lies between 0 and 100")
    values = _column(trajectories.observations, dimension)
    return float(np.percentile(values, percentile if direction > 0 else 100.0 - percentile))


@dataclass(frozen=True)
class DominantFrequency:
    """The strongest oscillation of a dimension has the frequency asked for.

    The size of the oscillation is no condition; it is among the details.

    Raises:
        UserError: a setting that cannot be.
    """

    dimension: int
    """Entry of the observation."""
    frequency_hz: float
    """Asked frequency."""
    tolerance: float = 0.1
    """Relative error of the frequency that is still a success."""
    from_step: int = 0
    """Step from which on the signal is looked at: what comes before is the way into the oscillation."""
    periods: float = 2.0
    """Periods of the asked frequency that an episode must last from that step on: a shorter one fails."""
    name: str = ""
    """What the sentence calls the dimension; empty: its number."""

    def __post_init__(self) -> None:
        _check(0 < self.frequency_hz < math.inf, f"frequency_hz is {self.frequency_hz}; it must be above 0")
        _check(0 < self.tolerance < 1, f"tolerance is {self.tolerance}; a share between 0 and 1 is needed")
        _check(self.from_step >= 0, f"from_step is {self.from_step}; it must not be negative")
        _check(self.periods >= 2, f"periods is {self.periods}; a frequency needs at least 2 to be measured")

    def succeeded(self, reached: NDArray[np.float32], terminated: bool, dt: float) -> bool:
        details = self.details(reached, terminated, dt)
        return bool(details["periods"] >= self.periods and details["frequency_error"] <= self.tolerance)

    def details(self, reached: NDArray[np.float32], terminated: bool, dt: float) -> dict[str, float]:
        """`dominant_frequency_hz`, `frequency_error` (relative), `amplitude` (raw units), `periods` of the asked one.

        Raises UserError where the asked frequency is too high for the time between two observations.
        """
        highest = 0.5 / dt
        _check(
            self.frequency_hz * (1 + self.tolerance) < highest,
            f"frequency_hz is {self.frequency_hz}; observations every {dt:g} s show frequencies below {highest:g} Hz",
        )
        signal = _column(reached, self.dimension)[: _alive(reached, terminated)][self.from_step :]
        frequency, amplitude = dominant_oscillation(signal, dt)
        return {
            "dominant_frequency_hz": frequency,
            "frequency_error": abs(frequency / self.frequency_hz - 1.0),
            "amplitude": amplitude,
            "periods": len(signal) * dt * self.frequency_hz,
        }

    def describe(self) -> str:
        low, high = ((1 + sign * self.tolerance) * self.frequency_hz for sign in (-1, 1))
        start = f" from step {self.from_step} on" if self.from_step else ""
        return (
            f"the dominant frequency of {_name(self.name, self.dimension)}{start} lies between {low:.4g} and "
            f"{high:.4g} Hz, and the episode lasts for {self.periods:g} periods of {self.frequency_hz:.4g} Hz"
        )


@dataclass(frozen=True)
class EndsWithin:
    """Dimensions of the last state lie within ranges, a terminal one included.

    Raises:
        UserError: a range without anything inside.
    """

    dimensions: tuple[int, ...]
    """Entries of the observation."""
    ranges: tuple[tuple[float, float], ...]
    """Of each, raw units: smallest and largest value; infinite where anything will do."""
    names: tuple[str, ...]
    """What the sentence calls them."""

    def __post_init__(self) -> None:
        for name, (low, high) in zip(self.names, self.ranges, strict=True):
            _check(low <= high, f"{name} is to end from {low:g} to {high:g}; the first must not be above the second")

    def succeeded(self, reached: NDArray[np.float32], terminated: bool, dt: float) -> bool:
        ends = [_column(reached, dimension)[-1] for dimension in self.dimensions]
        return all(low <= end <= high for end, (low, high) in zip(ends, self.ranges, strict=True))

    def details(self, reached: NDArray[np.float32], terminated: bool, dt: float) -> dict[str, float]:
        """`end_NAME` (raw units) of every dimension."""
        pairs = zip(self.names, self.dimensions, strict=True)
        return {f"end_{name}": float(_column(reached, dimension)[-1]) for name, dimension in pairs}

    def describe(self) -> str:
        bounded = [pair for pair in zip(self.names, self.ranges, strict=True) if np.isfinite(pair[1]).any()]
        return "at the end " + " and ".join(f"{name} is from {low:.4g} to {high:.4g}" for name, (low, high) in bounded)


@dataclass(frozen=True, eq=False)
class VisitsWaypoints:
    """Enough of the waypoints are near to the states at their steps: for goals that nothing else is known about.

    Raises:
        UserError: a setting that cannot be.
    """

    waypoints: Waypoints
    std: NDArray[np.float32]
    """(observation_dim,) standard deviation of the data."""
    tolerance: float = WAYPOINT_TOLERANCE
    """Largest error of a waypoint that counts as visited."""
    fraction: float = 0.8
    """Share of all waypoints that must be visited; one that the episode never came to is not."""

    def __post_init__(self) -> None:
        _check(self.tolerance > 0, f"tolerance is {self.tolerance}; it must be above 0")
        _check(0 < self.fraction <= 1, f"fraction is {self.fraction}; a share above 0, at most 1, is needed")

    def succeeded(self, reached: NDArray[np.float32], terminated: bool, dt: float) -> bool:
        return self.details(reached, terminated, dt)["waypoints_visited"] >= self.fraction - 1e-9

    def where_they_were(self, wanted: NDArray[np.float32]) -> VisitsWaypoints:
        """The same for one episode's goals that drifted: `wanted` (steps + 1, observation_dim) as it was recorded."""
        states, steps = self.waypoints.states.copy(), self.waypoints.steps
        inside = steps < len(wanted)
        states[inside] = wanted[steps[inside]]
        return replace(self, waypoints=replace(self.waypoints, states=states, moving=None))

    def details(self, reached: NDArray[np.float32], terminated: bool, dt: float) -> dict[str, float]:
        """`waypoints_visited` (share) and `last_waypoint_error` (NaN where the episode did not come to it)."""
        errors = waypoint_errors(reached, self.waypoints.steps, self.waypoints.states, self.std)
        return {
            "waypoints_visited": float(np.mean(errors <= self.tolerance)),
            "last_waypoint_error": float(errors[-1]) if math.isfinite(errors[-1]) else math.nan,
        }

    def describe(self) -> str:
        return (
            f"at {self.fraction:.0%} of the {len(self.waypoints)} waypoints or more, the root mean square error over "
            f"the fixed dimensions is at most {self.tolerance:g} standard deviations of the data"
        )


def waypoint_errors(
    reached: NDArray[np.float32], steps: NDArray[np.int64], states: NDArray[np.float32], std: NDArray[np.float32]
) -> NDArray[np.float64]:
    """(K,) root mean square error over the fixed dimensions of every waypoint at its step, in standard deviations.

    Infinite for waypoints after the last of `reached` (steps + 1, observation_dim).

    Args:
        reached: raw units, as in `Success`.
        steps: (K,) of the episode.
        states: (K, observation_dim) raw units, NaN where free; every row fixes something.
        std: (observation_dim,) of the data.
    """
    came = steps < len(reached)
    errors = np.full(len(steps), np.inf)
    difference = (reached[steps[came]].astype(np.float64) - states[came]) / std
    errors[came] = np.sqrt(np.nanmean(np.square(difference), axis=1)) if came.any() else np.inf
    return errors


def _alive(reached: NDArray[np.float32], terminated: bool) -> int:
    """States of an episode that are not terminal: all, or all but the last."""
    return len(reached) - int(terminated)


def _longest_run(flags: NDArray[np.bool_]) -> int:
    """Length of the longest run of True in `flags` (n,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _column(states: NDArray[np.float32], dimension: int) -> NDArray[np.float64]:
    _check(
        0 <= dimension < states.shape[1],
        f"dimension is {dimension}; observations have {states.shape[1]} entries, 0 to {states.shape[1] - 1}",
    )
    return states[:, dimension].astype(np.float64)


def _name(name: str, dimension: int) -> str:
    return name or f"observation {dimension}"


def _check(right: bool, message: str) -> None:
    if not right:
        raise UserError(f"success: {message}")


def _check_direction(direction: int, named: str, allowed: tuple[int, ...]) -> None:
    _check(direction in allowed, f"direction is {direction}; it is {named}")
