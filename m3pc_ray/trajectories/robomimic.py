"""Robomimic's HDF5 layout, low-dimensional: one group an episode. Reading; robomimic itself is not needed.

data                     attribute env_args: environment, version, settings (JSON)
data/demo_0              one group an episode, numbered
    actions              (steps, 7)
    rewards, dones       (steps,) of the state after the action: 1 where the task is solved
    obs/KEY              (steps, size) robot0_eef_pos, robot0_eef_quat, robot0_gripper_qpos, object; others are not read
    next_obs/KEY         the same after the action
mask/NAME                names of episodes: train, valid, better, 20_percent, ...
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from m3pc_ray.environments.manipulation import observation
from m3pc_ray.environments.manipulation.tasks import ACTION_DIM, SUCCESS_REWARD, ManipulationTask
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories import validation
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from m3pc_ray.trajectories.hdf5_arrays import open_file, read_matrix, read_vector
from m3pc_ray.trajectories.robomimic_environment import END_ATTRIBUTE, find_environment

ROBOT_KEYS = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}
"""Key -> size, in the order of the observation."""
OBJECT_KEY = "object"
_SAME_PLACE = 0.15
"""Metres: how far a stored relative position may be from the computed one and still be that. robosuite 1.5 stores that
of the step before, which is centimetres away; with another order of entries it is about a metre."""
_ROUNDING = 1e-3
"""Metres, or entries of a quaternion: below this, what is stored is what would be computed."""


def is_robomimic(path: str | Path) -> bool:
    """Whether an HDF5 file has this layout, whatever its name."""
    try:
        with h5py.File(path, "r") as file:
            data = file.get("data")
            return isinstance(data, h5py.Group) and ("env_args" in data.attrs or "demo_0" in data)
    except OSError:
        return False


def masks(path: str | Path) -> dict[str, int]:
    """Names of the file's masks and how many episodes each lists."""
    with open_file(Path(path)) as file:
        group = file.get("mask")
        return {name: len(group[name]) for name in sorted(group)} if isinstance(group, h5py.Group) else {}


def read_robomimic(path: str | Path, environment: str = "", mask: str = "") -> Trajectories:
    """Read a file, episodes in the order of their numbers.

    - An episode ends with success, the first step whose reward is 1: TERMINATED; what comes after it is left out.
    - Without success it ended as our own files say. Others: `dones` on the last step, before the environment's time
      limit, says that the attempt was given up: TERMINATED, as robomimic's own algorithms take it, and nothing is
      bootstrapped from where it was left. Else TIME_LIMIT, as with robomimic's `done_mode 0`. Its return is 0.
    - Quaternions keep their hemisphere along an episode.
    - What is stored of the object relative to the gripper is replaced where it is not that of the same step, or has
      another order or sign, as robosuite 1.5 has; only poses in the world are taken as they are.

    Args:
        path: the file.
        environment: a Gymnasium id, such as the limited one of the same task; empty: the one `env_args` names.
        mask: only the episodes that this mask lists; empty: all.

    Raises:
        UserError: one line that names file, episode, key and index.
    """
    path = Path(path)
    source = str(path)
    with open_file(path) as file:
        data = file.get("data")
        if not isinstance(data, h5py.Group):
            raise UserError(f"{source}: group 'data' is missing; a robomimic file has one")
        text = data.attrs.get("env_args", "")
        found = find_environment(source, text.decode() if isinstance(text, bytes) else str(text), environment)
        names = _chosen(source, file, data, mask)
        episodes = [_read_episode(f"{source}: data/{name}", data[name], found.task) for name in names]
    facts = validation.environment_facts(found.task.environment_id)
    left_out = sum(episode.left_out for episode in episodes)
    told = [f"robomimic file {path.name}"]
    told += [f"mask {mask}"] if mask else []
    told += [f"{left_out:,} steps after success left out"] if left_out else []
    metadata = validation.metadata_of(
        facts,
        f"{path.stem}-{mask}" if mask else path.stem,
        versions={"robosuite": found.robosuite_version} if found.robosuite_version else {},
        origin="; ".join(told),
    )
    starts = np.concatenate([[0], np.cumsum([len(episode.rewards) for episode in episodes])]).astype(np.int64)
    # Signs are continued into the observation after the last action, so it takes part as one more step.
    seen = np.concatenate([np.concatenate([e.observations, e.final[None]]) for e in episodes])
    seen = observation.continuous(found.task, seen, starts[:-1] + np.arange(len(episodes)))
    last = starts[1:] + np.arange(len(episodes))
    return Trajectories(
        observations=np.delete(seen, last, axis=0),
        actions=np.concatenate([episode.actions for episode in episodes]),
        rewards=np.concatenate([episode.rewards for episode in episodes]),
        episode_starts=starts,
        episode_ends=np.array([episode.end for episode in episodes], dtype=np.int8),
        final_observations=seen[last],
        metadata=metadata,
    )


@dataclass(frozen=True)
class _Recorded:
    """One episode up to its success."""

    observations: NDArray[np.float32]
    """(steps, observation_dim), signs of quaternions as stored"""
    final: NDArray[np.float32]
    """(observation_dim,) after the last action; NaN where unknown"""
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    end: EpisodeEnd
    left_out: int
    """Steps recorded after success."""


def _unsolved_end(where: str, group: h5py.Group, given_up: bool) -> EpisodeEnd:
    """Of an attempt without success; `given_up`: what another's file says about it."""
    told = group.attrs.get(END_ATTRIBUTE)
    if told is None:
        return EpisodeEnd.TERMINATED if given_up else EpisodeEnd.TIME_LIMIT
    known = {end.name.lower(): end for end in EpisodeEnd}
    name = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
    if name not in known:
        raise UserError(f"{where}: attribute '{END_ATTRIBUTE}' is {name!r}; it must be one of {', '.join(known)}")
    return known[name]


def _number(name: str) -> int | None:
    match = re.fullmatch(r"demo_(\d+)", name)
    return int(match.group(1)) if match else None


def _chosen(source: str, file: h5py.File, data: h5py.Group, mask: str) -> list[str]:
    """Names of the episodes to read, in the order of their numbers."""
    numbers = {name: _number(name) for name in data}
    present = {name: number for name, number in numbers.items() if number is not None}
    if not present:
        raise UserError(f"{source}: group 'data' holds no episode (demo_0, demo_1, ...)")
    chosen = set(present)
    if mask:
        group = file.get("mask")
        known = sorted(group) if isinstance(group, h5py.Group) else []
        if mask not in known:
            raise UserError(f"{source}: has no mask {mask} (masks: {', '.join(known) or 'none'})")
        listed = [name.decode() if isinstance(name, bytes) else str(name) for name in group[mask][()]]
        missing = [name for name in listed if name not in present]
        if missing or not listed:
            what = f"lists {missing[0]}, which the file does not hold" if missing else "lists no episode"
            raise UserError(f"{source}: mask {mask} {what}")
        chosen = set(listed)
    return sorted(chosen, key=lambda name: present[name])


def _read_episode(where: str, group: h5py.Group, task: ManipulationTask) -> _Recorded:
    for key in ("actions", "rewards", "dones", "obs"):
        if key not in group:
            more = "; a raw file: robomimic's dataset_states_to_obs.py adds observations" if key == "obs" else ""
            raise UserError(f"{where}: key '{key}' is missing (keys: {', '.join(sorted(group))}){more}")
    actions = read_matrix(where, group, "actions")
    rewards = read_vector(where, group, "rewards", np.float32)
    dones = read_vector(where, group, "dones", np.bool_)
    robot, things = _read_observations(where, group, "obs", task)
    columns = {"actions": actions, "rewards": rewards, "dones": dones, "obs": robot}
    validation.check_steps(where, {key: len(values) for key, values in columns.items()})
    validation.check_width(where, "actions", actions.shape[1], ACTION_DIM, task.environment_id)
    for key, values in (("actions", actions), ("rewards", rewards)):
        validation.check_finite(where, key, values)
    validation.check_actions(where, "actions", actions, -np.ones(ACTION_DIM), np.ones(ACTION_DIM))
    solved = np.isclose(rewards, SUCCESS_REWARD)
    if not np.all(solved | (rewards == 0.0)):
        step = int(np.flatnonzero(~solved & (rewards != 0.0))[0])
        raise UserError(f"{where}: rewards[{step}] is {rewards[step]:g}; sparse rewards, 0 or 1, are needed")
    steps = int(np.argmax(solved)) + 1 if solved.any() else len(rewards)
    following = "next_obs" in group
    if following:
        next_robot, next_things = _read_observations(where, group, "next_obs", task)
        validation.check_steps(where, {"actions": len(actions), "next_obs": len(next_robot)})
        after = (next_robot[steps - 1 : steps], next_things[steps - 1 : steps])
    else:
        after = (robot[steps : steps + 1], things[steps : steps + 1])  # none after the last recorded step
    joined = [np.concatenate([now[:steps], then]) for now, then in zip((robot, things), after, strict=True)]
    seen = _observations(where, joined[0], joined[1], task)
    if len(seen) == steps:
        seen = np.concatenate([seen, np.full((1, seen.shape[1]), np.nan)])
    if solved.any():
        end = EpisodeEnd.TERMINATED
    else:
        end = _unsolved_end(where, group, bool(dones[-1]) and steps < task.time_limit)
    single = seen.astype(np.float32)
    earned = solved[:steps].astype(np.float32) * np.float32(SUCCESS_REWARD)
    return _Recorded(single[:-1], single[-1], actions[:steps], earned, end, len(rewards) - steps)


def _read_observations(where: str, group: h5py.Group, name: str, task: ManipulationTask) -> tuple[Any, Any]:
    """(robot (steps, 9), object (steps, its size)), in float64 as files have them."""
    seen = group[name]
    keys = [*ROBOT_KEYS, OBJECT_KEY]
    missing = [key for key in keys if not isinstance(seen.get(key), h5py.Dataset)]
    if missing:
        raise UserError(f"{where}: key '{name}/{missing[0]}' is missing (keys: {', '.join(sorted(seen)) or 'none'})")
    arrays = {key: read_matrix(where, seen, key, np.float64) for key in keys}
    validation.check_steps(where, {f"{name}/{key}": len(values) for key, values in arrays.items()})
    sizes: dict[str, Sequence[int]] = {key: (size,) for key, size in ROBOT_KEYS.items()}
    full = 14 if task.relative_rotation else 10
    sizes[OBJECT_KEY] = (full, 3) if task.position_only else (full,)
    for key, values in arrays.items():
        validation.check_finite(where, f"{name}/{key}", values)
        if values.shape[1] not in sizes[key]:
            wanted = " or ".join(map(str, sizes[key]))
            raise UserError(
                f"{where}: {name}/{key} has {values.shape[1]} columns; {task.environment_id} needs {wanted}"
            )
    return np.concatenate([arrays[key] for key in ROBOT_KEYS], axis=1), arrays[OBJECT_KEY]


def _typical(apart: NDArray[np.float64]) -> float:
    """Median length of (rows, 3)."""
    return float(np.median(np.linalg.norm(apart, axis=1)))


def _observations(
    where: str, robot: NDArray[np.float64], things: NDArray[np.float64], task: ManipulationTask
) -> NDArray[np.float64]:
    """(steps, observation_dim) with the object's entries in our order; `_SAME_PLACE` tells in which order they came."""
    if things.shape[1] == 3:
        return np.concatenate([robot, things], axis=1)
    orders = [(things[:, :7], things[:, 7:])]
    if task.relative_rotation:
        orders.append((things[:, 7:], things[:, :7]))  # robosuite 1.5: relative entries first
    distances = []
    for pose, stored in orders:
        seen = observation.seen_from_gripper(task, robot, pose)[:, :3]
        told = np.any(stored != 0.0, axis=1)  # robosuite 1.5 leaves zeros in an episode's first step
        told |= not told.any()
        distances.append(min(_typical(stored[told, :3] - sign * seen[told]) for sign in (1.0, -1.0)))
    best = int(np.argmin(distances))
    if distances[best] > _SAME_PLACE:
        raise UserError(
            f"{where}: obs/{OBJECT_KEY} has no known order: its relative entries are {distances[best]:.2f} m from what "
            "the poses of end effector and object say"
        )
    pose, stored = orders[best]
    made = observation.assemble(task, robot, pose)
    if task.position_only:
        return made
    computed = made[:, 16:]
    turned = np.where(np.sum(computed[:, 3:] * stored[:, 3:], axis=1, keepdims=True) < 0.0, -1.0, 1.0)
    wanted = np.concatenate([computed[:, :3], turned * computed[:, 3:]], axis=1)
    if np.allclose(stored, wanted, rtol=0.0, atol=_ROUNDING):
        made[:, 16:] = stored
    return made
