"""A task made of the user's own waypoints: a CSV or Parquet file, or a Python function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.configuration import suggestion
from m3pc_ray.errors import UserError
from m3pc_ray.goals.reading import read_waypoints
from m3pc_ray.goals.spacing import coverage_warnings, spacing_warnings
from m3pc_ray.goals.stitching import stitch
from m3pc_ray.goals.success import VisitsWaypoints
from m3pc_ray.goals.task import Facts, GoalProblem, GoalTask
from m3pc_ray.goals.waypoints import Waypoints


@dataclass(frozen=True)
class UserWaypoints(GoalTask):
    """Waypoints from `file`; measured at the steps they are due."""

    name: ClassVar[str] = "waypoints"
    environment: ClassVar[str] = ""
    key: ClassVar[str] = ""
    plotted: ClassVar[tuple[str, ...]] = ()

    free_dimensions: Literal["data", "model"] = "model"
    """What fills the dimensions that waypoints leave open: the model at every decision, or states of the data that go
    together (goals/stitching.py)."""
    file: str = ""
    """FILE.csv, FILE.parquet or FILE.py:function (see goals/reading.py)."""
    every: int = 1
    """Steps from one waypoint to the next, where the file says no steps."""
    key_dimension: str = ""
    """Name of the dimension that errors are shown of; empty: the first that is fixed."""
    visited_share: float = 0.8
    """Share of the waypoints that must be visited for an episode to succeed."""
    visited_tolerance: float = 0.5
    """Distance at which a waypoint counts as visited: root mean square over its fixed dimensions, in the data's
    standard deviations."""

    def wanted(self, facts: Facts) -> NDArray[np.float32]:
        return self._at_their_steps(self._read(facts), facts)

    def success(self, facts: Facts) -> VisitsWaypoints:
        return self._success(self._read(facts), facts)

    def problem(self, facts: Facts) -> GoalProblem:
        waypoints = self._read(facts)
        warnings = coverage_warnings(waypoints, facts.time_limit)
        names = [dimension.name for dimension in facts.dimensions]
        if self.key_dimension and self.key_dimension not in names:
            raise UserError(
                f"key_dimension is {self.key_dimension!r}; {facts.environment_id} has no such dimension"
                f"{suggestion(self.key_dimension, names, ', '.join(names))}"
            )
        fixed = np.flatnonzero(waypoints.fixed)
        key = names.index(self.key_dimension) if self.key_dimension else int(fixed[0])
        wanted = self._at_their_steps(waypoints, facts)
        success = self._success(waypoints, facts)
        warnings += spacing_warnings(waypoints, facts.trajectories, facts.dimensions)
        if self.free_dimensions == "data":
            if waypoints.moving is not None:
                raise UserError(f"{self.file}: waypoints drift, so free_dimensions must be model, not data")
            found = stitch(
                waypoints.steps, waypoints.states, facts.start(), facts.trajectories, facts.std, self.fidelity
            )
            states = np.where(np.isnan(waypoints.states), found.states, waypoints.states)
            source = f"{waypoints.source}, free dimensions from {facts.trajectories.metadata.name}"
            waypoints = replace(waypoints, states=states, source=source)
        plotted = tuple(dict.fromkeys([key, *(int(index) for index in fixed[:2])]))
        return GoalProblem(self.name, facts.environment_id, waypoints, wanted, key, plotted, success, tuple(warnings))

    def _read(self, facts: Facts) -> Waypoints:
        if not self.file:
            raise UserError("task waypoints: file is empty; name a FILE.csv, FILE.parquet or FILE.py:function")
        return read_waypoints(self.file, facts.environment_id, facts.observation_dim, self.every)

    def _success(self, waypoints: Waypoints, facts: Facts) -> VisitsWaypoints:
        """About the waypoints that there is time for."""
        inside = waypoints.steps <= _last_step(waypoints, facts)
        measured = replace(waypoints, steps=waypoints.steps[inside], states=waypoints.states[inside])
        return VisitsWaypoints(measured, facts.std, self.visited_tolerance, self.visited_share)

    def _at_their_steps(self, waypoints: Waypoints, facts: Facts) -> NDArray[np.float32]:
        last = _last_step(waypoints, facts)
        wanted = np.full((last + 1, waypoints.observation_dim), np.nan, dtype=np.float32)
        inside = waypoints.steps <= last
        wanted[waypoints.steps[inside]] = waypoints.states[inside]
        return wanted


def _last_step(waypoints: Waypoints, facts: Facts) -> int:
    """The last waypoint's, or the environment's time limit where that comes first."""
    last = int(waypoints.steps[-1])
    return min(last, facts.time_limit) if facts.time_limit else last
