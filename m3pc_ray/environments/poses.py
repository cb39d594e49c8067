"""Full simulator positions (qpos) from observations, for environments whose observation is their state.

Such observations leave out the place along the track (`observed_state`). A picture needs it: it is summed up from the
observed velocity, or given by who knows it.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from m3pc_ray.environments.observed_state import ObservedState, find_observed_state
from m3pc_ray.errors import UserError

FloatArray = npt.NDArray[np.float64]


def positions_of(
    environment: gymnasium.Env[Any, Any], observations: npt.ArrayLike, forward: npt.ArrayLike | None = None
) -> FloatArray:
    """Positions (steps, nq) of a MuJoCo environment, in its own units, from observations (steps, observation_dim).

    A position that is NaN, as in a waypoint that leaves it free, becomes that of the environment's initial pose. The
    environment is reset, to find out how its observation is made.

    Args:
        forward: the positions that the observation leaves out: (steps, hidden), (steps,) for the first of them, or one
            number for it at every step. None: they start at 0, and consecutive steps are as far apart as the observed
            velocities say, by the trapezoidal rule; a NaN velocity counts as standing still.

    Raises:
        UserError: the observation is not the state, its size does not fit, or it leaves out a rotation.
    """
    state = find_observed_state(environment)
    base: Any = environment.unwrapped
    values = np.asarray(observations, dtype=np.float64)
    hidden = state.hidden_positions
    size = base.model.nq - hidden + state.velocities
    if values.ndim != 2 or values.shape[1] != size:
        raise UserError(f"observations have shape {values.shape}; {_name(environment)} needs (steps, {size})")
    initial = np.asarray(base.init_qpos, dtype=np.float64)
    positions = np.tile(initial, (len(values), 1))
    shown = values[:, : -state.velocities]
    positions[:, hidden:] = np.where(np.isnan(shown), initial[hidden:], shown)
    if not hidden:
        return positions
    if forward is None:
        positions[:, :hidden] = _travelled(environment, values, state)
        return positions
    given = np.asarray(forward, dtype=np.float64)
    if given.ndim == 2 and given.shape == (len(values), hidden):
        positions[:, :hidden] = given
    elif given.ndim == 0 or given.shape == (len(values),):
        positions[:, 0] = given
    else:
        raise UserError(f"forward has shape {given.shape}; ({len(values)},) or ({len(values)}, {hidden}) is needed")
    return positions


def current_positions(environment: gymnasium.Env[Any, Any]) -> FloatArray:
    """The positions (nq,) in which a MuJoCo environment stands now, a copy. Raises UserError for another simulator."""
    base: Any = environment.unwrapped
    if not (hasattr(base, "model") and hasattr(base, "data")):
        raise UserError(f"{_name(environment)} is not simulated by MuJoCo")
    return np.array(base.data.qpos, dtype=np.float64)


def seconds_per_step(environment: gymnasium.Env[Any, Any]) -> float:
    """Simulated seconds that one action lasts. Raises UserError for an environment that does not say."""
    seconds = getattr(environment.unwrapped, "dt", None)
    if seconds is None:
        raise UserError(f"{_name(environment)} does not say how long a step lasts (its attribute dt)")
    return float(seconds)


def _travelled(environment: gymnasium.Env[Any, Any], observations: FloatArray, state: ObservedState) -> FloatArray:
    """(steps, hidden) positions along the coordinates left out, 0 at the first step."""
    base: Any = environment.unwrapped
    columns = [_velocity_index(base.model, index) for index in range(state.hidden_positions)]
    if any(column is None for column in columns):
        raise UserError(f"the observation of {_name(environment)} leaves out a rotation; its positions are unknown")
    velocities = observations[:, -state.velocities :]
    speeds = np.nan_to_num(velocities[:, np.array(columns, dtype=np.intp)], nan=0.0)
    steps = 0.5 * (speeds[1:] + speeds[:-1]) * seconds_per_step(environment)
    return np.concatenate([np.zeros((min(len(speeds), 1), len(columns))), np.cumsum(steps, axis=0)])


def _velocity_index(model: Any, position: int) -> int | None:
    """The velocity that is the time derivative of a position; None for an entry of a quaternion."""
    import mujoco

    joint = int(np.searchsorted(model.jnt_qposadr, position, side="right")) - 1
    offset = position - int(model.jnt_qposadr[joint])
    kind = model.jnt_type[joint]
    if kind == mujoco.mjtJoint.mjJNT_BALL or (kind == mujoco.mjtJoint.mjJNT_FREE and offset >= 3):
        return None
    return int(model.jnt_dofadr[joint]) + offset


def _name(environment: gymnasium.Env[Any, Any]) -> str:
    return environment.spec.id if environment.spec is not None else type(environment.unwrapped).__name__
