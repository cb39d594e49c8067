"""Saving and restoring the physical state of a MuJoCo environment, so that one state can be lived through twice."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from m3pc_ray.errors import UserError

SimulatorState = npt.NDArray[np.float64]


def has_state(environment: gymnasium.Env[Any, Any]) -> bool:
    """Whether the environment is simulated by MuJoCo, so that its state can be saved and restored."""
    return all(hasattr(environment.unwrapped, name) for name in ("model", "data", "_get_obs"))


def save_state(environment: gymnasium.Env[Any, Any]) -> SimulatorState:
    """The full integration state: positions, velocities, time, controls and the solver's warm start.

    Positions and velocities alone would continue almost, not exactly, as the original does.
    Raises UserError when the environment is not simulated by MuJoCo.
    """
    import mujoco

    model, data = _model_and_data(environment)
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(model, kind), dtype=np.float64)
    mujoco.mj_getState(model, data, state, kind)
    return state


def restore_state(environment: gymnasium.Env[Any, Any], state: SimulatorState) -> npt.NDArray[np.float32]:
    """Put the environment, reset before, into a saved state; returns the observation (observation_dim,) there."""
    import mujoco

    model, data = _model_and_data(environment)
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    mujoco.mj_setState(model, data, state, kind)
    mujoco.mj_forward(model, data)
    observation = environment.unwrapped._get_obs()  # type: ignore[attr-defined]
    # Computing the derived quantities for the observation must not change what the next step starts from.
    mujoco.mj_setState(model, data, state, kind)
    return np.asarray(observation, dtype=np.float32)


def _model_and_data(environment: gymnasium.Env[Any, Any]) -> tuple[Any, Any]:
    base: Any = environment.unwrapped
    if not has_state(environment):
        name = environment.spec.id if environment.spec is not None else type(base).__name__
        raise UserError(f"environment {name} is not simulated by MuJoCo; its state cannot be saved and restored")
    return base.model, base.data
