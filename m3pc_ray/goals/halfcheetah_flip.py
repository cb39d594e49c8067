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
    """Front-tip angle (rad, nose up) on an even ramp, front-tip height (m, above its place at rest) on half a sine."""

    name: ClassVar[str] = "halfcheetah-flip"
    environment: ClassVar[str] = "HalfCheetah"
    key: ClassVar[str] = "front_tip_angle"
    plotted: ClassVar[tuple[str, ...]] = ("front_tip_angle", "front_tip_height")

    start_step: int = 10
    """Step at which the turn begins."""
    turn_steps: int = 16
    """Steps it takes (0.05 s each)."""
    hold_steps: int = 24
    """Steps for which the end of the turn is held."""
    final_angle: float = 3.3
    """Angle at the end, rad; a little more than half a turn is how it lies on its back."""
    rest_height: float = -0.05
    """Height of the front tip on its feet, m."""
    lift: float = 0.35
    """How far the front tip is above the straight line from rest to lying height in the middle of the turn, m."""
    lying_height: float = -0.55
    """Height of the front tip on its back, m."""
    alive_steps: int = 20
    """Steps that the episode must go on after the half turn."""

    def wanted(self, facts: Facts) -> NDArray[np.float32]:
        steps = np.arange(self.start_step + self.turn_steps + self.hold_steps + 1)
        turned = ramp(steps, self.start_step, self.turn_steps)
        wanted = np.full((len(steps), facts.observation_dim), np.nan, dtype=np.float32)
        moving = slice(self.start_step, None)
        wanted[moving, facts.index("front_tip_angle")] = self.final_angle * turned[moving]
        height = self.rest_height + (self.lying_height - self.rest_height) * turned + self.lift * np.sin(math.pi * turned)
        wanted[moving, facts.index("front_tip_height")] = height[moving]
        return wanted

    def success(self, facts: Facts) -> HalfTurn:
        return HalfTurn(facts.index(self.key), self.alive_steps, direction=1, name="front-tip angle")
