"""Writing robomimic's HDF5 layout (`robomimic` has the picture), for data of the manipulation tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3pc_ray.environments.manipulation.tasks import SUCCESS_REWARD, TASKS
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from m3pc_ray.trajectories.robomimic import OBJECT_KEY, ROBOT_KEYS
from m3pc_ray.trajectories.robomimic_environment import END_ATTRIBUTE, environment_args


def write_robomimic(
    trajectories: Trajectories,
    path: str | Path,
    masks: Mapping[str, ArrayLike] | None = None,
    *,
    simulator_states: Sequence[NDArray[np.floating]] | None = None,
    models: Sequence[str] | None = None,
) -> None:
    """Write the layout to `path`; `m3pc_ray.trajectories.files.replacing` makes that all or nothing.

    Read back, it is the same data set, its name and origin apart. `dones` is 1 on the last step of every episode that
    is not cut, robomimic's `done_mode 2`; why an episode ended, which `dones` cannot say, is its attribute `end`. An
    episode without a known final observation has no `next_obs`.

    Args:
        trajectories: of a manipulation task, with all actions and rewards; success alone is rewarded, and ends an
            episode.
        path: the file.
        masks: name -> indices of episodes, such as train and valid.
        simulator_states: an array (steps, size) an episode: flattened simulator states before every action.
        models: the simulator's XML model, one an episode.

    Raises:
        UserError: another environment, missing actions or rewards, or rewards that are not those of success.
    """
    name = trajectories.metadata.name
    task = TASKS.get(trajectories.metadata.environment_id)
    if task is None:
        raise UserError(
            f"{name}: {trajectories.metadata.environment_id} has no robomimic layout; it is for {', '.join(TASKS)}"
        )
    if trajectories.actions_known is not None or trajectories.rewards_known is not None:
        raise UserError(f"{name}: some actions or rewards are missing; robomimic's layout needs all of them")
    success = trajectories.terminated() & (trajectories.rewards == np.float32(SUCCESS_REWARD))
    wrong = np.flatnonzero((trajectories.rewards != 0.0) & ~success)
    if len(wrong):
        episode = int(np.searchsorted(trajectories.episode_starts, wrong[0], side="right")) - 1
        raise UserError(
            f"{name}: a reward of episode {episode} is not {SUCCESS_REWARD:g} for the success that ends it, or 0"
        )
    columns = {**ROBOT_KEYS, OBJECT_KEY: task.object_dim}
    lengths = trajectories.lengths
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = trajectories.num_steps
        version = trajectories.metadata.versions.get("robosuite")
        data.attrs["env_args"] = json.dumps(environment_args(task, version) if version else environment_args(task))
        for episode, start in enumerate(trajectories.episode_starts[:-1]):
            steps = slice(int(start), int(start + lengths[episode]))
            final = trajectories.final_observations[episode]
            ended = trajectories.episode_ends[episode] != EpisodeEnd.CUT
            dones = np.zeros(lengths[episode], dtype=np.int64)
            dones[-1] = int(ended)
            group = data.create_group(f"demo_{episode}")
            group.attrs["num_samples"] = int(lengths[episode])
            group.attrs[END_ATTRIBUTE] = EpisodeEnd(trajectories.episode_ends[episode]).name.lower()
            _create(group, "actions", trajectories.actions[steps])
            _create(group, "rewards", trajectories.rewards[steps])
            _create(group, "dones", dones)
            seen = trajectories.observations[steps]
            _split(group.create_group("obs"), seen, columns)
            if not np.isnan(final).any():
                _split(group.create_group("next_obs"), np.concatenate([seen[1:], final[None]]), columns)
            if simulator_states is not None:
                _create(group, "states", np.asarray(simulator_states[episode]))
            if models is not None:
                group.attrs["model_file"] = models[episode]
        for mask, episodes in (masks or {}).items():
            names = [f"demo_{int(episode)}" for episode in np.asarray(episodes, dtype=np.int64).reshape(-1)]
            file.create_dataset(f"mask/{mask}", data=np.array(names, dtype="S"))


def _split(group: h5py.Group, observations: NDArray[np.float32], columns: Mapping[str, int]) -> None:
    first = 0
    for key, size in columns.items():
        _create(group, key, observations[:, first : first + size])
        first += size


def _create(group: h5py.Group, key: str, values: NDArray) -> None:
    group.create_dataset(key, data=values, compression="gzip", compression_opts=4)
