"""A hand, and a thing that moves with it while the closed fingers hold it: kinematics alone, without robosuite."""

from __future__ import annotations

import numpy as np

TABLE = 0.82
DOWN = np.array([1.0, 0.0, 0.0, 0.0])


def about_z(angle: float) -> np.ndarray:
    """(4,) the rotation by `angle` about z."""
    return np.array([0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2)])


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Quaternions (x, y, z, w): first `b`, then `a`."""
    x1, y1, z1, w1 = a
    x2, y2, z2, w2 = b
    return np.array(
        [
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        ]
    )


class ToyRobot:
    """An action of 1 moves the hand by a quarter of what is asked for, as the arm does; a thing let go falls at once.

    Args:
        thing: (3,) where it lies.
        angle: radians about z, of the thing.
        handle: metres along the thing's x axis from its middle to where it can be gripped.
        reach: metres between fingers and handle within which they grip.
    """

    def __init__(self, thing, angle: float, handle: float = 0.0, reach: float = 0.015) -> None:
        self.hand, self.yaw = np.array([-0.1, 0.0, 1.0]), 0.0
        self.thing, self.angle, self.handle, self.reach = np.array(thing, dtype=float), angle, handle, reach
        self.held = False

    def observation(self) -> np.ndarray:
        """(16,) as a full observation begins."""
        turned = product(about_z(self.yaw), DOWN)
        return np.concatenate([self.hand, turned, [0.04, -0.04], self.thing, about_z(self.angle)])

    def grip_point(self) -> np.ndarray:
        return self.thing + self.handle * np.array([np.cos(self.angle), np.sin(self.angle), 0.0])

    def step(self, action: np.ndarray) -> None:
        closed = action[6] > 0
        if closed and not self.held:
            self.held = bool(np.linalg.norm(self.grip_point() - self.hand) < self.reach)
        if not closed and self.held:
            self.held = False
            self.thing[2] = TABLE
        moved, turned = 0.25 * 0.05 * action[:3].astype(float), 0.25 * 0.5 * float(action[5])
        if self.held:
            offset = self.thing - self.hand
            cosine, sine = np.cos(turned), np.sin(turned)
            offset[:2] = [cosine * offset[0] - sine * offset[1], sine * offset[0] + cosine * offset[1]]
            self.thing = self.hand + moved + offset
            self.angle += turned
        self.hand, self.yaw = self.hand + moved, self.yaw + turned
