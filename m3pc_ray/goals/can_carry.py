"""The can is carried somewhere, along a demonstration that is bent to where it lies and where it is to go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.environments.manipulation.tasks import TASKS
from m3pc_ray.errors import UserError
from m3pc_ray.goals.guidance import bend, bendable, from_where_it_is
from m3pc_ray.goals.success import EndsWithin
from m3pc_ray.goals.task import Facts, GoalProblem, GoalTask, Plane
from m3pc_ray.goals.waypoints import Waypoints


@dataclass(frozen=True)
class CanCarry(GoalTask):
    """The can's way, and the hand's with it, from where an episode begins."""

    name: ClassVar[str] = "can-carry"
    environment: ClassVar[str] = "PickPlaceCan"
    key: ClassVar[str] = "can_y"
    plotted: ClassVar[tuple[str, ...]] = ("can_x", "can_y", "can_z")

    every: int = 4
    """Steps from one waypoint to the next."""
    free_dimensions: Literal["data", "model"] = "model"
    """Nothing is free: the demonstration is a whole one."""
    along: Literal["solved", "failed"] = "solved"
    """Which episodes of the data show the way: solved ones put the can into its compartment."""
    place_x: float | None = None
    """Where the can is to end, m; none: where the demonstration has taken it."""
    place_y: float | None = None
    """The same along y, m."""
    lowest: float = 0.8
    """Height of the can at the end, m: at least this (0.8: the floor of the bins)."""
    highest: float = 0.95
    """At most this."""
    tolerance: float = 0.08
    """How far from the place the can may end, m."""
    from_where_it_is: bool = True
    """Ask for the rest of the way from where the can is, not from where it should be by now."""
    settle_steps: int = 40
    """Steps for which the last waypoint is asked for after the demonstration's end."""

    def wanted(self, facts: Facts) -> NDArray[np.float32]:
        return self._from(facts, facts.start())

    def success(self, facts: Facts) -> EndsWithin:
        names = ("can_x", "can_y", "can_z")
        height = (self.lowest, self.highest)
        return EndsWithin(tuple(facts.index(name) for name in names), (*self._around(), height), names)

    def problem(self, facts: Facts) -> GoalProblem:
        whole = super().problem(facts)
        steps = whole.waypoints.steps
        waypoints = Waypoints(
            steps,
            whole.waypoints.states,
            f"{whole.waypoints.source}, episode {self._guide(facts)} of {facts.trajectories.metadata.name}",
            moving=lambda step, seen: self._from(facts, seen)[steps],
            placed=True,
            corrected=partial(from_where_it_is, steps) if self.from_where_it_is else None,
        )
        # Between waypoints nothing is measured: what is wanted there follows from where an episode begins, too.
        wanted = np.full_like(whole.wanted, np.nan)
        wanted[steps] = whole.wanted[steps]
        return replace(whole, waypoints=waypoints, wanted=wanted, plane=self._plane(facts))

    def _plane(self, facts: Facts) -> Plane:
        across, upwards = facts.index("can_y"), facts.index("can_x")  # the table is long along y
        ends = facts.trajectories.final_observations[:, (across, upwards)]
        x, y = self._around()
        return Plane((across, upwards), (y, x), ends[~np.isnan(ends).any(axis=1)])

    def _around(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Where the can may end, along x and y."""
        place = self._place()
        if place is None:
            return (-np.inf, np.inf), (-np.inf, np.inf)
        x, y = ((at - self.tolerance, at + self.tolerance) for at in place)
        return x, y

    def _place(self) -> tuple[float, float] | None:
        if (self.place_x is None) != (self.place_y is None):
            raise UserError(f"task {self.name}: place_x and place_y belong together; give both or neither")
        return None if self.place_x is None or self.place_y is None else (self.place_x, self.place_y)

    def _guide(self, facts: Facts) -> int:
        """The demonstration nearest to median length that can be bent: a usual one. Of several the first."""
        data = facts.trajectories
        known = data.returns_known() & ~np.isnan(data.final_observations).any(axis=1)
        fit = np.flatnonzero(((data.returns > 0.0) == (self.along == "solved")) & known)
        lengths = data.lengths[fit]
        middle = np.median(lengths) if len(fit) else 0.0
        for episode in fit[np.argsort(np.abs(lengths - middle), kind="stable")]:
            if bendable(data.observations[data.episode_starts[episode]], data.final_observations[episode]):
                return int(episode)
        raise UserError(
            f"task {self.name}: {data.metadata.name} has no {self.along} episode to go along: one whose end is known, "
            "and in which the hand's start, the can's start and the can's end do not lie on a line"
        )

    def _from(self, facts: Facts, begins: NDArray[np.float32]) -> NDArray[np.float32]:
        """(steps + 1, observation_dim): the demonstration from this beginning, then its end, held."""
        data, guide = facts.trajectories, self._guide(facts)
        rows = slice(int(data.episode_starts[guide]), int(data.episode_starts[guide + 1]))
        shown = np.concatenate([data.observations[rows], data.final_observations[guide][None]])
        way = bend(TASKS[facts.environment_id], shown, begins, self._place())
        self.planned_steps(len(way) - 1 + self.settle_steps, facts)
        return np.concatenate([way, np.repeat(way[-1:], self.settle_steps, axis=0)])
