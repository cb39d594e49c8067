"""What a goal task is: the part of a state it asks for at every step, and what then becomes of the rest.

settings (YAML) ─► wanted at every step, free elsewhere ─► whole states, from the data ─► every n-th: waypoints
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.configuration_ranges import inside
from m3pc_ray.environments.observation_names import Dimension, task_name
from m3pc_ray.errors import UserError
from m3pc_ray.goals.setting_ranges import RANGES
from m3pc_ray.goals.spacing import spacing_warnings
from m3pc_ray.goals.stitching import stitch
from m3pc_ray.goals.success import Success
from m3pc_ray.goals.waypoints import Waypoints
from m3pc_ray.trajectories.episodes import Trajectories

LONGEST = 1_000_000
"""Steps a task may take where the environment has no time limit."""


@dataclass(frozen=True)
class Facts:
    """What a task is made for."""

    environment_id: str
    dimensions: Sequence[Dimension]
    """(observation_dim,) entries of an observation."""
    seconds_per_step: float
    trajectories: Trajectories
    """The data the run was trained on."""
    std: NDArray[np.float32]
    """(observation_dim,) its standard deviations, the unit of distances."""
    time_limit: int = 0
    """Steps after which an episode ends; 0: unknown."""

    @property
    def observation_dim(self) -> int:
        return len(self.dimensions)

    def index(self, name: str) -> int:
        """Where in an observation the entry called `name` stands."""
        return [dimension.name for dimension in self.dimensions].index(name)

    def start(self) -> NDArray[np.float32]:
        """(observation_dim,): where episodes start, the mean over the data's."""
        first = self.trajectories.observations[self.trajectories.episode_starts[:-1]]
        return np.asarray(first.mean(axis=0), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Plane:
    """Two dimensions in which a task about a place is looked at from above."""

    dimensions: tuple[int, int]
    """Entries of the observation: to the right and upwards."""
    target: tuple[tuple[float, float], tuple[float, float]]
    """Smallest and largest value of each where success is, raw units; infinite where anything will do."""
    demonstrated: NDArray[np.float32]
    """(episodes, 2) where the data's episodes ended."""


@dataclass(frozen=True)
class GoalProblem:
    """What is to be reached, by whom, and how it is judged."""

    name: str
    environment_id: str
    waypoints: Waypoints
    """What planners are given."""
    wanted: NDArray[np.float32]
    """(episode_steps + 1, observation_dim), raw units, what is measured at every step; NaN where nothing is wanted."""
    key_dimension: int
    plotted_dimensions: tuple[int, ...]
    success: Success
    warnings: tuple[str, ...] = ()
    """What a user should know before believing the figures."""
    plane: Plane | None = None
    """For a figure of where episodes went; None: the task is not about a place."""

    @property
    def episode_steps(self) -> int:
        """Steps an episode is played for, if it does not end before."""
        return len(self.wanted) - 1


@dataclass(frozen=True)
class GoalTask(ABC):
    """Settings that all built-in tasks share; each adds its own. One sentence a field: it is the help of YAML files."""

    name: ClassVar[str]
    environment: ClassVar[str]
    """Name of the Gymnasium task, without its version."""
    key: ClassVar[str]
    """Name of the dimension that the task is about."""
    plotted: ClassVar[tuple[str, ...]]
    """Names of the dimensions that figures show."""

    every: int = 1
    """Steps from one waypoint to the next."""
    free_dimensions: Literal["data", "model"] = "data"
    """What fills the dimensions that the task leaves open: states of the data that go together
    (goals/stitching.py), or the model at every decision."""
    fidelity: float = 0.1
    """With `data`: what a mismatch of the task's own dimensions costs, against a jump between places of the data."""
    data_episodes: int = 0
    """With `data`: use only so many episodes, those of highest return; 0: all."""

    def __post_init__(self) -> None:
        """Raises UserError, naming the setting, for a number outside of its range."""
        for name, value in vars(self).items():
            if name in RANGES and value is not None and not inside(value, RANGES[name]):
                raise UserError(f"task {self.name}: {name}: must be in {RANGES[name]}, not {value:g}")

    @abstractmethod
    def wanted(self, facts: Facts) -> NDArray[np.float32]:
        """(episode_steps + 1, observation_dim): what the task wants at every step, raw units, NaN where free."""

    @abstractmethod
    def success(self, facts: Facts) -> Success:
        """When an episode succeeds."""

    def planned_steps(self, count: float, facts: Facts) -> NDArray[np.int64]:
        """0..count, the steps of an episode; UserError where it takes longer than the environment's time limit."""
        most = facts.time_limit or LONGEST
        if not count <= most:
            raise UserError(
                f"task {self.name} takes {count:.0f} steps; episodes of {facts.environment_id} end after {most}: make "
                "it shorter"
            )
        return np.arange(math.ceil(count) + 1)

    def doubts(self, facts: Facts) -> tuple[str, ...]:
        """Why the task, as it is set, could not succeed even if it were followed exactly."""
        return ()

    def problem(self, facts: Facts) -> GoalProblem:
        """The task for one environment and data set.

        Raises UserError where the environment is another task, or the settings make no sense.
        """
        if task_name(facts.environment_id) != self.environment:
            raise UserError(
                f"task {self.name} is made for {self.environment}; the run was trained on {facts.environment_id}"
            )
        wanted = self.wanted(facts)
        asked = np.flatnonzero(~np.isnan(wanted).all(axis=1))
        first, last = int(asked[0]), int(asked[-1])
        source, states, steps = f"task {self.name}", wanted, np.arange(max(first, 1), last + 1)
        steps = steps[(steps - steps[0] + 1) % self.every == 0]
        if self.free_dimensions == "data":
            data = facts.trajectories
            if self.data_episodes:
                data = data.select(data.best_first()[: self.data_episodes])
            every_step = np.arange(1, last + 1)
            found = stitch(every_step, wanted[1 : last + 1], facts.start(), data, facts.std, self.fidelity)
            states = wanted.copy()
            states[1 : last + 1] = np.where(np.isnan(wanted[1 : last + 1]), found.states, wanted[1 : last + 1])
            steps = every_step[self.every - 1 :: self.every]  # the way to the first wanted state is known too
            source += f", free dimensions from {data.metadata.name} in {found.jumps + 1} pieces"
        if not len(steps):
            raise UserError(f"task {self.name}: every is {self.every}; the task is over after {last} steps")
        waypoints = Waypoints(steps.astype(np.int64), states[steps], source)
        return GoalProblem(
            self.name,
            facts.environment_id,
            waypoints,
            wanted,
            facts.index(self.key),
            tuple(facts.index(name) for name in self.plotted),
            self.success(facts),
            (*self.doubts(facts), *self._spacing(waypoints, wanted, facts)),
        )

    def _spacing(self, waypoints: Waypoints, wanted: NDArray[np.float32], facts: Facts) -> list[str]:
        """Warnings about what the task itself asks for; how the data's states go together is said by their pieces."""
        own = wanted[waypoints.steps]
        fixed = ~np.isnan(own).all(axis=1)
        if fixed.sum() < 2:
            return []
        asked = Waypoints(waypoints.steps[fixed], own[fixed], waypoints.source)
        return spacing_warnings(asked, facts.trajectories, facts.dimensions)


def ramp(steps: NDArray[np.int64], start: int, length: int) -> NDArray[np.float64]:
    """0 up to step `start`, rising evenly to 1 at `start + length`, 1 from there on."""
    return np.clip((steps - start) / length, 0.0, 1.0)
