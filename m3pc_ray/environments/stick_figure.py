"""The limbs of a MuJoCo figure as flat shapes, by kinematics alone: what a drawing without OpenGL needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from m3pc_ray.errors import UserError


@dataclass(frozen=True)
class Capsules:
    """A figure seen from the side at some steps; lengths in metres."""

    ends: npt.NDArray[np.float64]
    """(steps, capsules, 2 ends, 2 coordinates): horizontal, then vertical; equal ends for a sphere."""
    radii: npt.NDArray[np.float64]
    """(capsules,)"""
    names: tuple[str, ...]
    """Of the geoms, else of their bodies."""
    limbs: tuple[int, ...]
    """(capsules,): 0 for the trunk; 1, 2, ... for the limbs that hang on it, in the order of the simulator's model."""
    ground: float | None
    """Height of the floor; None where there is none, or where the figure is seen from above."""


def capsules(environment: gymnasium.Env[Any, Any], positions: npt.ArrayLike) -> Capsules:
    """The capsules, cylinders and spheres of moving bodies at positions (steps, nq), projected on a plane.

    The plane is x-z, the side view; x-y, the view from above, for a figure that spreads wider in y than in z, such as
    Swimmer's and Ant's. Geoms of other shapes, and what stands still (floor, rails), are left out. The environment's
    own state is not touched.

    Raises:
        UserError: another simulator, positions of another width, or a figure without any such geom.
    """
    import mujoco

    base: Any = environment.unwrapped
    name = environment.spec.id if environment.spec is not None else type(base).__name__
    if not hasattr(base, "model"):
        raise UserError(f"{name} is not simulated by MuJoCo, so there is no figure to draw")
    model = base.model
    values = np.asarray(positions, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != model.nq:
        raise UserError(f"positions have shape {values.shape}; {name} needs (steps, {model.nq})")
    shapes = mujoco.mjtGeom
    long = np.isin(model.geom_type, [shapes.mjGEOM_CAPSULE, shapes.mjGEOM_CYLINDER])
    drawn = (long | (model.geom_type == shapes.mjGEOM_SPHERE)) & (model.geom_bodyid > 0)
    geoms = np.flatnonzero(drawn)
    if not len(geoms):
        raise UserError(f"{name} has no capsule or sphere to draw as a stick figure; use a rendered video")
    half_lengths = np.where(long, model.geom_size[:, 1], 0.0)[geoms, None]
    data = mujoco.MjData(model)  # one of our own: the environment may be in an episode
    ends = np.empty((len(values), len(geoms), 2, 3))
    for step, position in enumerate(values):
        data.qpos[:] = position
        mujoco.mj_kinematics(model, data)
        centres = data.geom_xpos[geoms]
        axes = data.geom_xmat[geoms].reshape(-1, 3, 3)[:, :, 2]  # a capsule lies along its own z axis
        ends[step, :, 0] = centres - half_lengths * axes
        ends[step, :, 1] = centres + half_lengths * axes
    spread = np.ptp(ends, axis=(1, 2)).max(axis=0, initial=0.0)  # (3,)
    from_above = bool(spread[1] > spread[2])
    return Capsules(
        ends=ends[..., [0, 1] if from_above else [0, 2]],
        radii=np.array(model.geom_size[geoms, 0]),
        names=tuple(model.geom(geom).name or model.body(model.geom_bodyid[geom]).name for geom in geoms),
        limbs=_limbs(model, geoms),
        ground=None if from_above else _ground(model),
    )


def _limbs(model: Any, geoms: npt.NDArray[np.intp]) -> tuple[int, ...]:
    """(geoms,) 0 for bodies without a moving parent; else the number of the parent's child that the geom hangs on."""
    numbers: dict[int, int] = {}

    def limb(body: int) -> int:
        parent = int(model.body_parentid[body])
        if parent == 0:
            return 0
        if int(model.body_parentid[parent]) != 0:
            return limb(parent)
        return numbers.setdefault(body, len(numbers) + 1)

    return tuple(limb(int(model.geom_bodyid[geom])) for geom in geoms)


def _ground(model: Any) -> float | None:
    import mujoco

    planes = np.flatnonzero((model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE) & (model.geom_bodyid == 0))
    return float(model.geom_pos[planes[0], 2]) if len(planes) else None
