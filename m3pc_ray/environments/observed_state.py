"""Putting a MuJoCo environment into the state that one of its observations describes.

Many MuJoCo tasks observe their state nearly as it is: positions without the first few (where the body is in the world),
then velocities, limited to some bound. Whether an environment is one of them is found out by trying, not by its name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from m3pc_ray.errors import UserError

_LARGE_SPEED = 1e3
_TRIALS = 3


@dataclass(frozen=True)
class ObservedState:
    """How an environment's observation (observation_dim,) is made of its positions and velocities."""

    hidden_positions: int
    """Leading positions that the observation leaves out."""
    velocities: int
    """Entries at the end that are velocities."""
    speed_bound: float
    """Velocities are limited to +- this; infinite where they are not."""

    def is_complete(self, observations: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """(rows,): no velocity of (rows, observation_dim) stands at its bound, where its true value is unknown."""
        speeds = np.abs(observations[:, -self.velocities :])
        return np.asarray((speeds < self.speed_bound * (1 - 1e-6)).all(axis=1))

    def enter(
        self, environment: gymnasium.Env[Any, Any], observation: npt.NDArray[np.floating], hidden: float = 0.0
    ) -> None:
        """Put the environment, reset before, into the state of an observation (observation_dim,).

        Positions left out become `hidden`; the solver starts from nothing, so that order does not matter.
        """
        values = np.asarray(observation, dtype=np.float64)
        base: Any = environment.unwrapped
        positions = np.concatenate([np.full(self.hidden_positions, hidden), values[: -self.velocities]])
        base.data.qacc_warmstart[:] = 0.0
        base.set_state(positions, values[-self.velocities :])


def find_observed_state(environment: gymnasium.Env[Any, Any], seed: int = 0) -> ObservedState:
    """How the environment's observation is made of its state, found by setting states and looking; it is reset.

    Raises UserError, with the reason, where the observation does not determine the state.
    """
    base: Any = environment.unwrapped
    name = environment.spec.id if environment.spec is not None else type(base).__name__
    if not all(hasattr(base, attribute) for attribute in ("model", "data", "set_state", "_get_obs")):
        raise UserError(f"{name} is none of Gymnasium's MuJoCo environments, whose state can be set")
    environment.reset(seed=seed)
    positions, velocities = int(base.model.nq), int(base.model.nv)
    size = len(np.ravel(base._get_obs()))
    hidden = positions + velocities - size
    unlike = UserError(f"the observation of {name} is not its positions and velocities, so it gives no state to set")
    if not 0 <= hidden < positions or base.model.na:
        raise unlike
    rng = np.random.default_rng(seed)
    for _ in range(_TRIALS):
        place = base.init_qpos + rng.uniform(-0.1, 0.1, positions)
        speed = rng.uniform(-1.0, 1.0, velocities)
        base.set_state(place, speed)
        if not np.allclose(base._get_obs(), np.concatenate([place[hidden:], speed]), rtol=1e-6, atol=1e-6):
            raise unlike
    base.set_state(base.init_qpos, np.full(velocities, _LARGE_SPEED))
    shown = np.ravel(base._get_obs())[-velocities:]
    if not np.allclose(shown, shown[0]):
        raise unlike
    bound = math.inf if shown[0] == _LARGE_SPEED else float(shown[0])
    return ObservedState(hidden, velocities, bound)
