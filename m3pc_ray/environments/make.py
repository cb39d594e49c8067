"""Construction of Gymnasium environments, and a group of them stepped one after another in this process.

A group holds plain environments rather than a Gymnasium vector environment: those reset themselves one step after an
episode's end and ignore that step's action, which must reach neither a data set nor a score. Here every reset is
explicit.
"""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import gymnasium
import numpy as np
import numpy.typing as npt

from m3pc_ray.environments.manipulation import tasks
from m3pc_ray.errors import UserError

tasks.register()

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EnvironmentSpec:
    """What the rest of the product needs to know about an environment."""

    environment_id: str
    observation_dim: int
    action_dim: int
    time_limit: int
    """Steps after which an episode is cut off."""
    action_low: FloatArray
    """(action_dim,) lower bounds of the environment's own action range."""
    action_high: FloatArray
    """(action_dim,) upper bounds."""


@dataclass(frozen=True)
class Transitions:
    """One step of several environments; row i belongs to the i-th row that was stepped."""

    observations: FloatArray
    """(rows, observation_dim): what followed the action, the final observation included."""
    rewards: FloatArray
    """(rows,)"""
    terminated: npt.NDArray[np.bool_]
    """(rows,): a true end; the future is worth nothing."""
    truncated: npt.NDArray[np.bool_]
    """(rows,): the time limit cut the episode off."""

    @property
    def done(self) -> npt.NDArray[np.bool_]:
        """(rows,): the episode is over for either reason."""
        return self.terminated | self.truncated


def make_environment(
    environment_id: str, *, time_limit: int = 0, render_mode: str | None = None
) -> gymnasium.Env[Any, Any]:
    """A Gymnasium environment with flat, bounded Box actions, flat Box observations and a known time limit.

    `time_limit` replaces the environment's own limit when it is not 0.
    Raises UserError, naming the id and close ones, for an unknown id, a missing package, a space the model cannot
    learn from, or an environment without any time limit.
    """
    keywords: dict[str, Any] = {"disable_env_checker": True}
    if time_limit:
        keywords["max_episode_steps"] = time_limit
    if render_mode is not None:
        keywords["render_mode"] = render_mode
    try:
        with _without_construction_noise(environment_id):
            environment = gymnasium.make(environment_id, **keywords)
    except (gymnasium.error.Error, ImportError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(_explain_failure(environment_id, error)) from error
    try:
        specification(environment)
    except UserError:
        environment.close()
        raise
    return environment


def specification(environment: gymnasium.Env[Any, Any]) -> EnvironmentSpec:
    """The environment's dimensions, bounds and time limit; raises UserError where the model cannot use them."""
    environment_id = environment.spec.id if environment.spec is not None else type(environment.unwrapped).__name__
    observation_space, action_space = environment.observation_space, environment.action_space
    for name, space in (("observation", observation_space), ("action", action_space)):
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise UserError(f"environment {environment_id}: {name} space is {space}; a Box with one axis is needed")
    assert isinstance(action_space, gymnasium.spaces.Box)
    assert observation_space.shape is not None
    if not (np.isfinite(action_space.low).all() and np.isfinite(action_space.high).all()):
        raise UserError(f"environment {environment_id}: action space {action_space} is unbounded; finite bounds needed")
    limit = environment.spec.max_episode_steps if environment.spec is not None else None
    if not limit:
        raise UserError(f"environment {environment_id} has no time limit of its own; set data.time_limit")
    return EnvironmentSpec(
        environment_id=environment_id,
        observation_dim=int(observation_space.shape[0]),
        action_dim=int(action_space.shape[0]),
        time_limit=int(limit),
        action_low=action_space.low.astype(np.float32),
        action_high=action_space.high.astype(np.float32),
    )


class EnvironmentGroup:
    """`count` environments of one id, stepped one after another; rows are reset by whoever owns the group."""

    def __init__(self, environment_id: str, count: int, *, time_limit: int = 0) -> None:
        if count < 1:
            raise UserError(f"{count} environments of {environment_id} asked for; at least 1 is needed")
        self.environments = [make_environment(environment_id, time_limit=time_limit) for _ in range(count)]
        self.spec = specification(self.environments[0])
        self._running = np.zeros(count, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self.environments)

    @property
    def running(self) -> npt.NDArray[np.bool_]:
        """(count,): rows that were reset and whose episode is not over."""
        return self._running.copy()

    def reset(self, row: int, seed: int | None = None) -> FloatArray:
        """Start an episode in one environment; returns its first observation (observation_dim,)."""
        observation, _ = self.environments[row].reset(seed=seed)
        self._running[row] = True
        return np.asarray(observation, dtype=np.float32)

    def step(self, actions: npt.ArrayLike, rows: Sequence[int] | npt.NDArray[np.int64] | None = None) -> Transitions:
        """Step `rows` (default: all) with `actions` (rows, action_dim) in the environment's own bounds.

        Raises UserError for a wrong shape or a row whose episode is over: nothing resets itself here.
        """
        indices = range(len(self)) if rows is None else [int(row) for row in rows]
        batch = np.asarray(actions, dtype=np.float32)
        if batch.shape != (len(indices), self.spec.action_dim):
            expected = (len(indices), self.spec.action_dim)
            raise UserError(f"actions have shape {batch.shape}; {self.spec.environment_id} needs {expected}")
        observations = np.empty((len(indices), self.spec.observation_dim), dtype=np.float32)
        rewards = np.empty(len(indices), dtype=np.float32)
        terminated = np.empty(len(indices), dtype=np.bool_)
        truncated = np.empty(len(indices), dtype=np.bool_)
        for i, row in enumerate(indices):
            if not self._running[row]:
                raise UserError(f"environment {row} of {self.spec.environment_id}: its episode is over; reset it first")
            observation, reward, terminated[i], truncated[i], _ = self.environments[row].step(batch[i])
            observations[i], rewards[i] = observation, reward
            self._running[row] = not (terminated[i] or truncated[i])
        return Transitions(observations, rewards, terminated, truncated)

    def close(self) -> None:
        """Close every environment."""
        for environment in self.environments:
            environment.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@contextmanager
def _without_construction_noise(environment_id: str) -> Iterator[None]:
    """Silence advice about old versions and old model files while an environment is made; failures still raise.

    The data sets were made with the -v4 tasks, so advice to use -v5 is noise; and MuJoCo would write a file
    MUJOCO_LOG.TXT into the user's folder about an outdated attribute in HalfCheetah's model.
    """
    entry = gymnasium.registry[environment_id].entry_point if environment_id in gymnasium.registry else None
    mujoco = importlib.import_module("mujoco") if "mujoco" in str(entry) else None
    previous = mujoco.get_mju_user_warning() if mujoco is not None else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"gymnasium\..*")
        if mujoco is not None:
            mujoco.set_mju_user_warning(lambda _message: None)
        try:
            yield
        finally:
            if mujoco is not None:
                mujoco.set_mju_user_warning(previous)


def _explain_failure(environment_id: str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    if ":" in environment_id:
        package = environment_id.split(":", 1)[0]
        try:
            importlib.import_module(package)
        except ImportError:
            return f"environment {environment_id}: package {package} cannot be imported; install it first"
    if isinstance(error, RuntimeError):  # as of a wrong MUJOCO_GL: the id is right
        return f"environment {environment_id} cannot be made: {reason.rstrip('.')}"
    known = list(gymnasium.registry)
    close = difflib.get_close_matches(environment_id, known, n=3, cutoff=0.6)
    # A wrong letter case or an old version leaves the letters intact, which the matcher above may rank low.
    name = environment_id.rsplit("-v", 1)[0].lower()
    close += [other for other in known if other.rsplit("-v", 1)[0].lower() == name and other not in close]
    close = [other for other in close if other != environment_id]
    hint = f"; close ids: {', '.join(close[:5])}" if close else ""
    return f"environment {environment_id} cannot be made: {reason.rstrip('.')}{hint}"
