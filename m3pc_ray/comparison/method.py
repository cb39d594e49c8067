"""What a method is to `m3pc compare`: a function that trains, and calls back with a policy at fixed points.

    def train(assignment: Assignment, record: Record, report: Report) -> None: ...

It learns offline and calls `record(0, ...)`, then takes environment steps and calls `record(5000, ...)` and so on, at
every point of `assignment.points`. Whoever conducts the comparison plays the episodes inside `record`, with the same
code, resets and seeds for every method, and does not count that time.

Interruptions: the method keeps what it needs in `assignment.folder` and is called again with the same assignment. It
must be able to record a point again until it has trained past it, for it may have been interrupted while the point was
played: write the checkpoint first, then record, then go on. Points that are known already cost it a call, nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from m3pc_ray.baselines.feedforward_agent import Policy
from m3pc_ray.evaluation.evaluate import Acting
from m3pc_ray.trajectories.episodes import Trajectories

OFFLINE = 0
"""The point after offline training, before any environment step."""


Report = Callable[[str, int, int], None]
"""Called with what is under way, how much of it is done and how much there is: after every few updates or steps. The
seconds spent so far are kept at these calls, so that a killed process loses none of the account."""


@dataclass(frozen=True)
class Assignment:
    """What one method is to do with one data set and one seed."""

    dataset: str
    """Name of the data set in tables."""
    reference: str
    """What it is loaded by, absolute, for methods that run as a process of their own."""
    trajectories: Trajectories
    """What to learn from: all episodes, as our own critic does (docs/comparison.md)."""
    seed: int
    """Of everything random."""
    folder: Path
    """The method's own; kept between attempts, there when it is called."""
    budget: Mapping[str, int]
    """Gradient updates offline, under the names that the registry gives them."""
    points: tuple[int, ...] = ()
    """Environment steps at which to record, rising; the last is where to stop. Empty: offline only."""
    threads: int = 1
    """CPU threads to train with."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of our own runs, by their dotted names; others need not look at them."""

    @property
    def environment_id(self) -> str:
        return self.trajectories.metadata.environment_id

    @property
    def online_steps(self) -> int:
        """Environment steps to take in all."""
        return self.points[-1] if self.points else 0


class Record(Protocol):
    """Plays the episodes of a point and keeps what they earned."""

    def __call__(
        self,
        point: int,
        updates: int,
        policy: Policy | Acting,
        row: str = "",
        environment_steps: int | None = None,
    ) -> Mapping[str, Any]:
        """What was kept of the point: the columns of `comparison.folder.SCHEMA`.

        Args:
            point: `OFFLINE` or one of `assignment.points`.
            updates: gradient updates done so far, of all networks that have a loop of their own.
            policy: raw observations (B, observation_dim) to actions (B, action_dim) in (-1, 1), without memory and
                deterministic; or an agent that remembers episodes, and hears their rewards where it has `hear`.
            row: which of the method's rows this is; may be left out where it has one.
            environment_steps: taken so far, where they are not exactly `point`.
        """


Train = Callable[[Assignment, Record, Report], None]
"""A method. Raises UserError for what it cannot do, KeyboardInterrupt on Ctrl-C, after a checkpoint."""
