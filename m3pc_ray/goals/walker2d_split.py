"""Walker2d does the splits: one thigh goes forward further than it ever did in the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.errors import UserError
from m3pc_ray.goals.success import BeyondData, data_percentile
from m3pc_ray.goals.task import Facts, GoalTask, ramp


@dataclass(frozen=True)
class Walker2dSplit(GoalTask):
    """Right thigh joint (rad; negative: forward) on an even ramp, with the angular velocity (rad/s) of the ramp."""

    name: ClassVar[str] = "walker2d-split"
    environment: ClassVar[str] = "Walker2d"
    key: ClassVar[str] = "thigh_joint"
    plotted: ClassVar[tuple[str, ...]] = ("thigh_joint", "thigh_left_joint")

    start_step: int = 0
    """Step at which the ramp begins (0.008 s each)."""
    ramp_steps: int = 120
    """Steps it takes."""
    hold_steps: int = 30
    """Steps for which its end is held."""
    start_angle: float = 0.0
    """Angle of the thigh at the beginning, rad."""
    final_angle: float = -1.2
    """Angle at the end, rad; the joint moves within -2.62 and 0."""
    beyond_steps: int = 5
    """Steps for which the thigh must be beyond the data."""

    def wanted(self, facts: Facts) -> NDArray[np.float32]:
        if self.final_angle == self.start_angle:
            raise UserError(f"task {self.name}: final_angle is start_angle, {self.final_angle}; the thigh must move")
        steps = self.planned_steps(self.start_step + self.ramp_steps + self.hold_steps, facts)
        done = ramp(steps, self.start_step, self.ramp_steps)
        change = self.final_angle - self.start_angle
        wanted = np.full((len(steps), facts.observation_dim), np.nan, dtype=np.float32)
        moving = slice(self.start_step, None)
        wanted[moving, facts.index("thigh_joint")] = (self.start_angle + change * done)[moving]
        velocity = np.where(done < 1.0, change / (self.ramp_steps * facts.seconds_per_step), 0.0)
        wanted[moving, facts.index("thigh_joint_velocity")] = velocity[moving]
        return wanted

    def doubts(self, facts: Facts) -> tuple[str, ...]:
        success = self.success(facts)
        if success.direction * self.final_angle > success.direction * success.threshold:
            return ()
        return (f"final_angle {self.final_angle:g} is within what the data has, up to {success.threshold:.3g}",)

    def success(self, facts: Facts) -> BeyondData:
        direction = 1 if self.final_angle > self.start_angle else -1
        index = facts.index(self.key)
        threshold = data_percentile(facts.trajectories, index, direction)
        return BeyondData(index, threshold, direction, self.beyond_steps, name="thigh joint")
