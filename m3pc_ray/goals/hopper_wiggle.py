"""Hopper moves its foot to and fro at a frequency of the user's choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.goals.success import DominantFrequency
from m3pc_ray.goals.task import Facts, GoalTask

JOINT_RANGE = 0.785
"""Largest angle of the foot joint either way, rad: 45 degrees in Gymnasium's model of Hopper."""


@dataclass(frozen=True)
class HopperWiggle(GoalTask):
    """Foot joint (rad, toes up) on a sine, with the angular velocity (rad/s) that belongs to it."""

    name: ClassVar[str] = "hopper-wiggle"
    environment: ClassVar[str] = "Hopper"
    key: ClassVar[str] = "foot_joint"
    plotted: ClassVar[tuple[str, ...]] = ("foot_joint", "torso_angle")

    frequency_hz: float = 1.25
    """Frequency of the sine, 1/s."""
    amplitude: float = 0.3
    """Amplitude of the sine, rad; the joint moves within -0.785 and 0.785."""
    center: float = 0.0
    """Middle of the sine, rad."""
    start_step: int = 10
    """Step at which it begins (0.008 s each)."""
    cycles: float = 6.0
    """Periods asked for."""

    def wanted(self, facts: Facts) -> NDArray[np.float32]:
        pulse = 2.0 * math.pi * self.frequency_hz
        steps = self.planned_steps(self.start_step + self.cycles / self.frequency_hz / facts.seconds_per_step, facts)
        time = (steps - self.start_step) * facts.seconds_per_step
        wanted = np.full((len(steps), facts.observation_dim), np.nan, dtype=np.float32)
        moving = slice(self.start_step, None)
        wanted[moving, facts.index("foot_joint")] = (self.center + self.amplitude * np.sin(pulse * time))[moving]
        velocity = self.amplitude * pulse * np.cos(pulse * time)
        # The observation shows velocities within -10 and 10 (Gymnasium's documentation of Hopper).
        wanted[moving, facts.index("foot_joint_velocity")] = np.clip(velocity, -10.0, 10.0)[moving]
        return wanted

    def success(self, facts: Facts) -> DominantFrequency:
        return DominantFrequency(facts.index(self.key), self.frequency_hz, from_step=self.start_step, name="foot joint")

    def doubts(self, facts: Facts) -> tuple[str, ...]:
        found = []
        if abs(self.center) + self.amplitude > JOINT_RANGE:
            found.append(f"the sine goes beyond the foot joint's range of {JOINT_RANGE} rad")
        if self.cycles < 2:
            found.append(f"cycles is {self.cycles:g}; success needs two periods to tell a frequency from")
        return tuple(found)
