"""D4RL's HDF5 layout: flat arrays with end flags, read and written.

observations, actions, rewards     what was seen, done and earned, one row a step
terminals                          the task truly ended with this step
timeouts                           the episode was stopped by its time limit with this step
next_observations                  what was seen after the step

Actions and rewards may be missing: a step of NaN, or no such key at all.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories import validation, validity
from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories
from m3pc_ray.trajectories.hdf5_arrays import open_file, read_matrix, read_vector

SUFFIXES = (".hdf5", ".h5")
REQUIRED_KEYS = ("observations", "terminals")
_OWN_GROUP = "m3pc"
"""Group in which our own writer keeps what the layout cannot say; other readers ignore it."""


def read_hdf5(path: str | Path, environment: str = "") -> Trajectories:
    """Read a D4RL file. The environment: `environment`, else the file's `env_id` attribute, else its D4RL-style name.

    Ends of episodes:
    - `terminals` -> TERMINATED, also where `timeouts` is set on the same step;
    - `timeouts` -> TIME_LIMIT, but CUT where the file has longer timed-out episodes: the limit did not end that one;
    - no key `timeouts` -> an episode that has run for the environment's time limit ends there, TIME_LIMIT;
    - `next_observations` that do not continue in the next row -> CUT (an end that the file forgot to flag);
    - the last row without a flag -> CUT.
    Without `next_observations` the observation after an episode's last step is unknown: a row of NaN.
    Without `actions` or `rewards`, and where a step of theirs is NaN in every entry, they are unknown.

    Raises UserError, one line that names file, key and index, for anything that is not such a file.
    """
    path = Path(path)
    source = str(path)
    with open_file(path) as file:
        for key in REQUIRED_KEYS:
            if not isinstance(file.get(key), h5py.Dataset):
                present = ", ".join(sorted(file.keys())) or "none"
                raise UserError(f"{source}: key '{key}' is missing (keys: {present})")
        keys = ("actions", "rewards", "timeouts", "next_observations")
        optional = {key: isinstance(file.get(key), h5py.Dataset) for key in keys}
        observations = read_matrix(source, file, "observations")
        stored_actions = read_matrix(source, file, "actions") if optional["actions"] else None
        stored_rewards = read_vector(source, file, "rewards", np.float32) if optional["rewards"] else None
        terminals = read_vector(source, file, "terminals", np.bool_)
        timeouts = read_vector(source, file, "timeouts", np.bool_) if optional["timeouts"] else None
        following = read_matrix(source, file, "next_observations") if optional["next_observations"] else None
        attributes = {key: _plain(value) for key, value in file.attrs.items()}
        own = _read_own(source, file)

    columns = {
        "observations": observations,
        "actions": stored_actions,
        "rewards": stored_rewards,
        "terminals": terminals,
        "timeouts": timeouts,
        "next_observations": following,
    }
    validation.check_steps(source, {key: len(values) for key, values in columns.items() if values is not None})

    metadata = _metadata(path, environment, attributes, own)
    environment_id = metadata.environment_id
    size = len(metadata.observation_low)
    validation.check_width(source, "observations", observations.shape[1], size, environment_id)
    steps, action_dim = len(observations), len(metadata.action_low)
    if stored_actions is None:
        stored_actions = np.full((steps, action_dim), np.nan, dtype=np.float32)
    if stored_rewards is None:
        stored_rewards = np.full(steps, np.nan, dtype=np.float32)
    validation.check_width(source, "actions", stored_actions.shape[1], action_dim, environment_id)
    actions, actions_known = validity.from_nan(stored_actions)
    rewards, rewards_known = validity.from_nan(stored_rewards)
    validation.check_finite(source, "observations", observations)
    validation.check_finite(source, "actions", actions)
    validation.check_finite(source, "rewards", rewards)
    if following is not None:
        validation.check_width(source, "next_observations", following.shape[1], size, environment_id)
        validation.check_finite(source, "next_observations", following)
    validation.check_actions(source, "actions", actions, metadata.action_low, metadata.action_high, actions_known)

    if own is not None:
        starts, ends, final_known = own.starts, own.ends, own.final_known
        if starts[0] != 0 or starts[-1] != len(rewards) or np.any(np.diff(starts) <= 0):
            raise UserError(f"{source}: {_OWN_GROUP}/episode_starts does not rise from 0 to {len(rewards)}")
    else:
        starts, ends = find_episodes(observations, terminals, timeouts, following, metadata.max_episode_steps)
        final_known = np.full(len(ends), following is not None)
    finals = np.full((len(ends), size), np.nan, dtype=np.float32)
    if following is not None:
        finals[final_known] = following[starts[1:] - 1][final_known]
    return Trajectories(observations, actions, rewards, starts, ends, finals, metadata, actions_known, rewards_known)


def find_episodes(
    observations: NDArray[np.float32],
    terminals: NDArray[np.bool_],
    timeouts: NDArray[np.bool_] | None,
    following: NDArray[np.float32] | None,
    time_limit: int,
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """(episode_starts (episodes + 1,), episode_ends (episodes,)) from end flags (steps,); rules as in `read_hdf5`."""
    steps = len(terminals)
    broken = np.zeros(steps, dtype=bool)
    if following is not None and steps > 1:
        continues = np.isclose(following[:-1], observations[1:], rtol=1e-4, atol=1e-4).all(axis=1)
        broken[:-1] = ~continues
    flagged = terminals | broken
    if timeouts is None:
        timeouts = np.zeros(steps, dtype=bool)
        hard = np.concatenate([[0], np.flatnonzero(flagged) + 1, [steps]])
        for start, stop in zip(hard[:-1], hard[1:], strict=True):
            timeouts[start + time_limit - 1 : stop : time_limit] = True
    last_rows = np.flatnonzero(flagged | timeouts)
    if not len(last_rows) or last_rows[-1] != steps - 1:
        last_rows = np.append(last_rows, steps - 1)
    starts = np.concatenate([[0], last_rows + 1]).astype(np.int64)
    return starts, kinds_of_ends(np.diff(starts), terminals[last_rows], timeouts[last_rows])


def kinds_of_ends(
    lengths: NDArray[np.int64], terminated: NDArray[np.bool_], timed_out: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """(episodes,) `EpisodeEnd` from each episode's length and the flags on its last step.

    An episode flagged as timed out although others were allowed to run longer was not ended by the time limit.
    """
    timed_out = timed_out & ~terminated
    limit = lengths[timed_out].max(initial=0)
    ends = np.full(len(lengths), EpisodeEnd.CUT, dtype=np.int8)
    ends[timed_out & (lengths == limit)] = EpisodeEnd.TIME_LIMIT
    ends[terminated] = EpisodeEnd.TERMINATED
    return ends


def write_hdf5(
    trajectories: Trajectories, path: str | Path, attributes: Mapping[str, str | int | float] | None = None
) -> None:
    """Write D4RL's layout to `path`; `m3pc_ray.trajectories.store.replacing` makes that all or nothing.

    `attributes` are the file's besides `env_id`: what people are told about how it was made.

    Cut episodes carry the `timeouts` flag so that any reader keeps them apart, and a final observation that is unknown
    repeats the last one, since readers refuse NaN; a group `m3pc` tells which, so that reading back is lossless.
    Missing actions and rewards are NaN: the layout has no other word for them, and any number would be learnt from.
    """
    last_rows = trajectories.episode_starts[1:] - 1
    following = trajectories.next_observations()
    final_known = ~np.isnan(trajectories.final_observations).any(axis=1)
    unknown = last_rows[~final_known]
    following[unknown] = trajectories.observations[unknown]
    timeouts = np.zeros(trajectories.num_steps, dtype=bool)
    timeouts[last_rows] = trajectories.episode_ends != EpisodeEnd.TERMINATED
    with h5py.File(path, "w") as file:
        for key, values in (
            ("observations", trajectories.observations),
            ("actions", validity.to_nan(trajectories.actions, trajectories.actions_known)),
            ("rewards", validity.to_nan(trajectories.rewards, trajectories.rewards_known)),
            ("terminals", trajectories.terminated()),
            ("timeouts", timeouts),
            ("next_observations", following),
        ):
            file.create_dataset(key, data=values, compression="gzip", compression_opts=4)
        file.attrs.update(attributes or {})
        file.attrs["env_id"] = trajectories.metadata.environment_id
        group = file.create_group(_OWN_GROUP)
        group.attrs["metadata"] = json.dumps(trajectories.metadata.to_json(), allow_nan=False)
        group.create_dataset("episode_starts", data=trajectories.episode_starts)
        group.create_dataset("episode_ends", data=trajectories.episode_ends)
        group.create_dataset("final_observation_known", data=final_known)


class _Own:
    """What our own writer added to the layout."""

    def __init__(self, source: str, group: h5py.Group) -> None:
        try:
            self.metadata = DatasetMetadata.from_json(json.loads(str(group.attrs["metadata"])))
            self.starts: NDArray[np.int64] = group["episode_starts"][()].astype(np.int64)
            self.ends: NDArray[np.int8] = group["episode_ends"][()].astype(np.int8)
            self.final_known: NDArray[np.bool_] = group["final_observation_known"][()].astype(bool)
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            raise UserError(f"{source}: group '{_OWN_GROUP}' is damaged ({type(error).__name__}: {error})") from error
        episodes = len(self.ends)
        if len(self.starts) != episodes + 1 or len(self.final_known) != episodes or episodes == 0:
            raise UserError(f"{source}: group '{_OWN_GROUP}' lists different numbers of episodes")
        if not np.isin(self.ends, list(EpisodeEnd)).all():
            raise UserError(f"{source}: {_OWN_GROUP}/episode_ends holds a value that is no kind of end")


def _read_own(source: str, file: h5py.File) -> _Own | None:
    group = file.get(_OWN_GROUP)
    return _Own(source, group) if isinstance(group, h5py.Group) else None


def _metadata(path: Path, environment: str, attributes: dict[str, str], own: _Own | None) -> DatasetMetadata:
    if own is not None and not environment:
        return own.metadata
    environment_id = environment or attributes.get("env_id", "") or validation.environment_from_name(path.name)
    if not environment_id:
        raise UserError(
            f"{path}: no environment is named, neither by an 'env_id' attribute nor by a D4RL-style file name; "
            "give one with --environment, for example --environment Hopper-v4"
        )
    facts = validation.environment_facts(validation.modern_environment_id(environment_id))
    if own is not None:
        was = own.metadata
        return validation.metadata_of(facts, was.name, versions=was.versions, origin=was.origin)
    told = [attributes[key] for key in ("kind", "algorithm") if attributes.get(key)]
    return validation.metadata_of(
        facts,
        path.stem,
        versions=_versions(attributes.get("versions", "")),
        origin="; ".join([f"HDF5 file {path.name}", *told]),
    )


def _versions(text: str) -> dict[str, str]:
    with contextlib.suppress(json.JSONDecodeError):
        values = json.loads(text)
        if isinstance(values, dict):
            return {str(key): str(value) for key, value in values.items()}
    return {}


def _plain(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
