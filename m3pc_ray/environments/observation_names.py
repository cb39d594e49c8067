"""What the entries of known observations are: names and units, as Gymnasium's documentation of the tasks lists them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dimension:
    """One entry of an observation."""

    name: str
    """Lower case with underscores; the name of the joint in the simulator's model where it is one."""
    unit: str
    """`m`, `rad`, `m/s` or `rad/s`; empty where unknown."""

    @property
    def label(self) -> str:
        """For people: `thigh joint (rad)`."""
        return self.name.replace("_", " ") + (f" ({self.unit})" if self.unit else "")


def _with_velocities(positions: list[tuple[str, str]]) -> list[Dimension]:
    """Positions without the place along the track, then the velocities of all of them, that one's included."""
    moving = [("forward", "m"), *positions]
    return [Dimension(*entry) for entry in positions] + [
        Dimension(f"{name}_velocity", f"{unit}/s") for name, unit in moving
    ]


def _legs(*names: str) -> list[tuple[str, str]]:
    return [(name, "rad") for name in names]


def _manipulated(thing: str) -> list[Dimension]:
    """Of a manipulation task, in the order of `manipulation.observation`."""
    pose = [*((axis, "m") for axis in "xyz"), *((axis, "") for axis in ("qx", "qy", "qz", "qw"))]
    entries = [(f"end_effector_{name}", unit) for name, unit in pose] + [("left_finger", "m"), ("right_finger", "m")]
    entries += [(f"{thing}_{name}", unit) for name, unit in pose]
    return [Dimension(*entry) for entry in entries + [(f"{thing}_relative_{name}", unit) for name, unit in pose]]


_TORSO = [("torso_height", "m"), ("torso_angle", "rad")]
_KNOWN = {
    "Hopper": _with_velocities([*_TORSO, *_legs("thigh_joint", "leg_joint", "foot_joint")]),
    "Walker2d": _with_velocities(
        [
            *_TORSO,
            *_legs("thigh_joint", "leg_joint", "foot_joint", "thigh_left_joint", "leg_left_joint", "foot_left_joint"),
        ]
    ),
    "Lift": _manipulated("cube"),
    "PickPlaceCan": _manipulated("can"),
    "PickPlaceCan-limited": _manipulated("can"),
    "NutAssemblySquare": _manipulated("nut"),
    "HalfCheetah": _with_velocities(
        [
            ("front_tip_height", "m"),
            ("front_tip_angle", "rad"),
            *_legs("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"),
        ]
    ),
}


def task_name(environment_id: str) -> str:
    """`Hopper` of `Hopper-v4` or `some-package/Hopper-v4`."""
    return environment_id.rsplit("/", 1)[-1].rsplit(":", 1)[-1].rsplit("-v", 1)[0]


def observation_names(environment_id: str, observation_dim: int) -> list[Dimension]:
    """The (observation_dim,) entries of an environment's observation; `observation_3` where they are not known.

    An environment that shares its name but not its size with a known one (such as one that also shows forces) has the
    known entries first.
    """
    known = _KNOWN.get(task_name(environment_id), [])[:observation_dim]
    return known + [Dimension(f"observation_{index}", "") for index in range(len(known), observation_dim)]
