"""Checks every reader makes before it hands out a `Trajectories`: one line that names file, key and index."""

from __future__ import annotations

import contextlib
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3pc_ray.environments.make import make_environment, specification
from m3pc_ray.environments.manipulation.tasks import ACTION_DIM, TASKS
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.episodes import DatasetMetadata
from m3pc_ray.trajectories.validity import Known

ACTION_TOLERANCE = 1e-4
"""Actions may exceed their bounds by this much: rounding of a squashed policy, not a wrong scale."""

D4RL_TASKS = {"hopper": "Hopper-v4", "halfcheetah": "HalfCheetah-v4", "walker2d": "Walker2d-v4"}
"""Gymnasium id behind a D4RL name. D4RL used the `-v2` environments, which need the old mujoco-py and are gone; `-v4`
is the same model and reward on today's MuJoCo bindings."""
_QUALITIES = r"(random|medium|expert|full|simple|medium_replay|medium_expert|full_replay)"


@dataclass(frozen=True)
class EnvironmentFacts:
    """What an environment says about its spaces and its time limit."""

    environment_id: str
    observation_low: NDArray[np.float64]
    observation_high: NDArray[np.float64]
    action_low: NDArray[np.float64]
    action_high: NDArray[np.float64]
    max_episode_steps: int


def environment_from_name(name: str) -> str | None:
    """Environment of a D4RL-style name: `d4rl/hopper-medium-v2`, `hopper_medium_replay-v2.hdf5`; None for others."""
    stem = re.sub(r"\.(hdf5|h5)$", "", Path(name).name).lower().replace("-", "_")
    match = re.match(rf"^([a-z0-9]+)_{_QUALITIES}(_|$)", stem)
    return D4RL_TASKS.get(match.group(1)) if match else None


def modern_environment_id(environment_id: str) -> str:
    """`-v2` and `-v3` MuJoCo ids, which Gymnasium can no longer make, to the `-v4` of the same task."""
    match = re.fullmatch(r"(Hopper|HalfCheetah|Walker2d)-v[0-3]", environment_id)
    return f"{match.group(1)}-v4" if match else environment_id


@functools.cache
def environment_facts(environment_id: str) -> EnvironmentFacts:
    """Make the environment once and read its spaces and time limit. Raises UserError as `make_environment` does.

    A manipulation task is known without its simulator, so that its data can be learnt from where there is none.
    """
    task = TASKS.get(environment_id)
    if task is not None:
        seen, acted = np.full(task.observation_dim, np.inf), np.ones(ACTION_DIM)
        return EnvironmentFacts(environment_id, -seen, seen, -acted, acted, task.time_limit)
    with contextlib.closing(make_environment(environment_id)) as environment:
        spec = specification(environment)
        space = environment.observation_space
    assert isinstance(space, gymnasium.spaces.Box)
    return EnvironmentFacts(
        environment_id,
        space.low.astype(np.float64),
        space.high.astype(np.float64),
        spec.action_low.astype(np.float64),
        spec.action_high.astype(np.float64),
        spec.time_limit,
    )


def metadata_of(facts: EnvironmentFacts, name: str, **more: object) -> DatasetMetadata:
    """Metadata with the environment's spaces, time limit and D4RL reference scores; `more` sets further fields."""
    from m3pc_ray.trajectories.scores import D4RL_SOURCE, reference_scores

    references = reference_scores(facts.environment_id)
    return DatasetMetadata(
        name=name,
        environment_id=facts.environment_id,
        observation_low=tuple(facts.observation_low.tolist()),
        observation_high=tuple(facts.observation_high.tolist()),
        action_low=tuple(facts.action_low.tolist()),
        action_high=tuple(facts.action_high.tolist()),
        reference_min_score=references[0] if references else None,
        reference_max_score=references[1] if references else None,
        reference_source=D4RL_SOURCE if references else "",
        max_episode_steps=facts.max_episode_steps,
    ).replace(**more)


def check_steps(source: str, columns: dict[str, int]) -> None:
    """All columns hold the same number of rows, at least one. `columns`: name -> rows, the first sets the count."""
    first, expected = next(iter(columns.items()))
    for key, rows in columns.items():
        if rows != expected:
            raise UserError(f"{source}: {key} has {rows} rows, {first} has {expected}; they must be equally long")
    if expected == 0:
        raise UserError(f"{source}: {first} holds no step")


def check_width(source: str, key: str, width: int, expected: int, of: str) -> None:
    """The array has as many columns as the space."""
    if width != expected:
        raise UserError(f"{source}: {key} has {width} columns, {of} has {expected}")


def check_finite(source: str, key: str, values: NDArray[np.floating], first_row: int = 0) -> None:
    """No NaN and no infinity in (rows,) or (rows, dim). `first_row` is added to the row that is named."""
    finite = np.isfinite(values)
    if not finite.all():
        index = np.argwhere(~finite)[0]
        place = ", ".join(str(int(position)) for position in (index[0] + first_row, *index[1:]))
        raise UserError(f"{source}: {key}[{place}] is {values[tuple(index)]}; every value must be finite")


def check_actions(
    source: str, key: str, actions: NDArray[np.float32], low: ArrayLike, high: ArrayLike, known: Known = None
) -> None:
    """Every known action (rows, action_dim) lies within the bounds (action_dim,), up to `ACTION_TOLERANCE`."""
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    outside = (actions < low - ACTION_TOLERANCE) | (actions > high + ACTION_TOLERANCE)
    if known is not None:
        outside &= known[:, None]
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise UserError(
            f"{source}: {key}[{row}, {column}] is {actions[row, column]:g}, "
            f"outside the bounds [{low[column]:g}, {high[column]:g}]"
        )
