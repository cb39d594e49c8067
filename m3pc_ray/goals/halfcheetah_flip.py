"""HalfCheetah turns over onto its back: a half turn of the torso while its front tip goes up and comes down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.goals.success import HalfTurn
from m3pc_ray.goals.task import Facts, GoalTask, ramp


@dataclass(frozen=True)
class HalfCheetahFlip(GoalTask):
    """Front-tip angle (rad, nose up) on an even ramp; its height (m above 0.7 m) goes up, then down."""

    name: ClassVar[str] = "halfcheetah-flip"
    environment: ClassVar[str] = "HalfCheetah"
    key: ClassVar[str] = "front_tip_angle"
    plotted: ClassVar[tuple[str, ...]] = ("front_tip_angle", "front_tip_height")

    start_step: int = 10
    """Step at which the turn begins."""
    turn_steps: int = 24
    """Steps it takes (0.05 s each)."""
    hold_steps: int = 26
    """Steps for which the end of the turn is held."""
    rest_height: float = -0.13
    """Height of the front tip before, m: where the simulator comes to rest on its feet, without any action."""
    lift: float = 0.5
    """How far above the straight line from rest to lying height the front tip is in the middle of the turn, m."""
    lying_height: float = -0.58
    """Height of the front tip afterwards, m: where the simulator comes to rest on its back."""
    final_angle: float = 3.3
    """Angle at the end, rad: as it rests on its back, a little more than half a turn."""
    alive_steps: int = 20
    """Steps that the episode must go on after the half turn."""

    def wanted(self, facts: Facts) -> NDArray[np.float32]:
        steps = self.planned_steps(self.start_step + self.turn_steps + self.hold_steps, facts)
        turned = ramp(steps, self.start_step, self.turn_steps)
        wanted = np.full((len(steps), facts.observation_dim), np.nan, dtype=np.float32)
        moving = slice(self.start_step, None)
        wanted[moving, facts.index("front_tip_angle")] = self.final_angle * turned[moving]
        height = (
            self.rest_height + (self.lying_height - self.rest_height) * turned + self.lift * np.sin(math.pi * turned)
        )
        wanted[moving, facts.index("front_tip_height")] = height[moving]
        return wanted

    def doubts(self, facts: Facts) -> tuple[str, ...]:
        found = []
        if self.final_angle < math.pi:
            found.append(f"final_angle {self.final_angle:g} is less than the half turn that success needs")
        if self.hold_steps < self.alive_steps:
            found.append(f"hold_steps {self.hold_steps} ends the episode before the alive_steps {self.alive_steps}")
        return tuple(found)

    def success(self, facts: Facts) -> HalfTurn:
        return HalfTurn(facts.index(self.key), self.alive_steps, direction=1, name="front-tip angle")
