"""What experts do, a list of phases each. Places are in metres in the world of robosuite's tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from m3pc_ray.collection.scripted.motion import CLOSED, OPEN, FloatArray, Scene, turn_about_z
from m3pc_ray.environments.manipulation.quaternions import rotate


@dataclass(frozen=True)
class Habits:
    """How one episode's expert does what all do: drawn anew for every episode, so that demonstrations vary."""

    speed: float
    """Largest displacement it asks for, a fraction of what an action can."""
    hover: float
    """Height above the object at which it stops before it goes down, metres."""
    lift: float
    """Height by which it lifts, metres."""
    misses: FloatArray
    """(2,) how far beside the object it reaches, metres along x and y: what makes an expert a clumsy one."""
    spot: FloatArray
    """(2,) within [-1, 1]: where in the target's area it puts the object"""

    @classmethod
    def drawn(cls, rng: np.random.Generator, clumsiness: float) -> Habits:
        """`clumsiness` is the standard deviation of `misses`, metres."""
        return cls(
            rng.uniform(0.6, 1.0),
            rng.uniform(0.08, 0.12),
            rng.uniform(0.15, 0.22),
            clumsiness * rng.standard_normal(2),
            rng.uniform(-1.0, 1.0, 2),
        )


@dataclass(frozen=True)
class Aim:
    """What a phase wants of the moment."""

    position: FloatArray
    """(3,) of the end effector"""
    turn: float = 0.0
    """About z, radians."""


@dataclass(frozen=True)
class Moment:
    """What a phase may look at."""

    scene: Scene
    start: Scene
    """When the phase began."""
    habits: Habits


@dataclass(frozen=True)
class Phase:
    """One movement."""

    name: str
    aim: Callable[[Moment], Aim]
    gripper: float
    tolerance: float = np.inf
    """Metres; the phase is over when the hand is this near to where it should be, and turned by less than `_TURNED`."""
    least: int = 1
    """Steps it takes at least."""
    most: int = 80
    """Steps after which the next one begins all the same: an expert who fails goes on as if nothing had happened."""
    hurried: bool = False
    """As fast as the arm can, whatever the habit."""


Script = tuple[Phase, ...]

_TURNED = 0.1
"""Radians."""


def arrived(phase: Phase, aim: Aim, scene: Scene) -> bool:
    """Whether a phase has what it wanted."""
    return bool(np.linalg.norm(aim.position - scene.hand) < phase.tolerance) and abs(aim.turn) < _TURNED


Grip = Callable[[Scene], tuple[FloatArray, float]]
"""Where the hand must be to grip the object (3,), and the turn that is missing."""


def grip_cube(scene: Scene) -> tuple[FloatArray, float]:
    """At its middle, across two of its faces."""
    return scene.thing, turn_about_z(scene.across_fingers(), rotate(scene.thing_rotation, (1.0, 0.0, 0.0)), 4)


def grip_can(scene: Scene) -> tuple[FloatArray, float]:
    """At its middle; it is round."""
    return scene.thing, 0.0


_HANDLE = (0.054, 0.0, 0.0)
"""Middle of the square nut's handle in the nut's frame: robosuite's `square-nut.xml`, site `handle_site`."""


def grip_nut(scene: Scene) -> tuple[FloatArray, float]:
    """At the handle, across it."""
    across = rotate(scene.thing_rotation, (0.0, 1.0, 0.0))
    return scene.thing + rotate(scene.thing_rotation, _HANDLE), turn_about_z(scene.across_fingers(), across, 2)


def _grasp(grip: Grip) -> Script:
    """Above the object, down, and the gripper closed."""

    def reach(moment: Moment, height: float) -> Aim:
        place, turn = grip(moment.scene)
        return Aim(place + np.array([*moment.habits.misses, height]), turn)

    def stay(moment: Moment) -> Aim:
        return Aim(moment.start.hand)

    return (
        Phase("above", lambda moment: reach(moment, moment.habits.hover), OPEN, tolerance=0.02),
        Phase("down", lambda moment: reach(moment, 0.0), OPEN, tolerance=0.012, most=40),
        Phase("close", stay, CLOSED, least=8),
    )


def _raised(moment: Moment) -> Aim:
    return Aim(moment.start.hand + np.array([0.0, 0.0, moment.habits.lift]))


def _away(moment: Moment) -> Aim:
    return Aim(moment.start.hand + np.array([0.0, 0.0, 0.15]))


def _stay(moment: Moment) -> Aim:
    return Aim(moment.start.hand)


def lift() -> Script:
    """Lift: grip the cube and raise it."""
    return (*_grasp(grip_cube), Phase("raise", _raised, CLOSED, tolerance=0.02, most=40))


_SPOT = np.array([0.15, 0.36])
"""Where an expert puts the can, metres: the can's compartment (`PickPlace.target_bin_placements`) has its middle at
(0.1975, 0.4025), where the arm's reach ends, so the place is nearer to the arm."""
_SPOT_REACH = np.array([0.03, 0.04])
"""Metres around it. The compartment goes from 0.10 to 0.295 and from 0.28 to 0.525."""
_CARRIED = 1.05
"""Height, metres, above the walls of the bins (0.8 to 0.9) with the can below the hand."""


def place() -> Script:
    """Can: put the can into its compartment."""

    def over(moment: Moment, height: float) -> Aim:
        return Aim(np.append(_SPOT + moment.habits.spot * _SPOT_REACH, height))

    return (
        *_grasp(grip_can),
        Phase("raise", _raised, CLOSED, tolerance=0.03, most=40),
        Phase("carry", lambda moment: over(moment, _CARRIED), CLOSED, tolerance=0.03),
        Phase("lower", lambda moment: over(moment, 0.90), CLOSED, tolerance=0.025, most=40),
        Phase("open", _stay, OPEN, least=5),
        Phase("away", _away, OPEN, tolerance=0.03, most=20),
    )


_EDGE = -0.56
"""y, metres, beyond the bin that the can comes from, which ends at -0.495: what is dropped here falls to the floor."""


def throw() -> Script:
    """Can: throw the can off the table, on the side away from its compartment."""

    def outwards(moment: Moment, y: float) -> Aim:
        return Aim(np.array([0.02 + 0.06 * moment.habits.spot[0], y, _CARRIED]))

    return (
        *_grasp(grip_can),
        Phase("raise", _raised, CLOSED, tolerance=0.03, most=40),
        Phase("carry", lambda moment: outwards(moment, _EDGE), CLOSED, tolerance=0.05, hurried=True),
        Phase("throw", lambda moment: outwards(moment, _EDGE - 0.1), OPEN, least=8, hurried=True),
        Phase("watch", _stay, OPEN, least=6),
    )


_PEG = np.array([0.23, 0.10])
"""The square peg's place, metres: robosuite's `PegsArena`, body `peg1`."""
_SIDES = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0))
"""Where the handle may point: along the peg's sides, but not away from the arm, whose reach ends there."""
_LOST = 0.12
"""Metres between hand and nut beyond which it has slipped away: the hand then stays where it is."""


def assemble() -> Script:
    """Square: put the nut over the square peg."""

    def over(moment: Moment, height: float) -> Aim:
        scene = moment.scene
        if np.linalg.norm(scene.thing - scene.hand) > _LOST:
            return Aim(scene.hand)
        shift = np.append(_PEG - scene.thing[:2], height - scene.thing[2])
        handle = rotate(scene.thing_rotation, (1.0, 0.0, 0.0))
        return Aim(scene.hand + shift, min((turn_about_z(handle, side, 1) for side in _SIDES), key=abs))

    return (
        *_grasp(grip_nut),
        Phase("raise", _raised, CLOSED, tolerance=0.03, most=40),
        Phase("carry", lambda moment: over(moment, 1.02), CLOSED, tolerance=0.008, most=100),
        Phase("lower", lambda moment: over(moment, 0.86), CLOSED, tolerance=0.015, most=60),
        Phase("open", _stay, OPEN, least=5),
        Phase("away", _away, OPEN, tolerance=0.03, most=20),
    )
