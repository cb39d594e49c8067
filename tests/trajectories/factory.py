"""Small episodes with Hopper's sizes, and plain D4RL files as others write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from m3pc_ray.trajectories.validation import environment_facts, metadata_of

OBSERVATION_DIM, ACTION_DIM = 11, 3
TERMINATED, TIME_LIMIT, CUT = EpisodeEnd.TERMINATED, EpisodeEnd.TIME_LIMIT, EpisodeEnd.CUT
ARRAYS = ("observations", "actions", "rewards", "episode_starts", "episode_ends", "final_observations")
KNOWN = ("actions_known", "rewards_known")


def make_trajectories(
    lengths: Sequence[int],
    ends: Sequence[EpisodeEnd] | None = None,
    rewards: Sequence[float] | None = None,
    seed: int = 0,
    unknown_finals: Sequence[int] = (),
) -> Trajectories:
    """Random episodes of the given lengths; all terminated unless `ends` says otherwise."""
    rng = np.random.default_rng(seed)
    steps, episodes = int(np.sum(lengths)), len(lengths)
    finals = rng.normal(size=(episodes, OBSERVATION_DIM)).astype(np.float32)
    finals[list(unknown_finals)] = np.nan
    return Trajectories(
        observations=rng.normal(size=(steps, OBSERVATION_DIM)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(steps, ACTION_DIM)).astype(np.float32),
        rewards=np.asarray(rng.normal(size=steps) if rewards is None else rewards, dtype=np.float32),
        episode_starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        episode_ends=np.asarray(ends if ends is not None else [TERMINATED] * episodes, dtype=np.int8),
        final_observations=finals,
        metadata=metadata_of(environment_facts("Hopper-v4"), "synthetic", origin="made by a test"),
    )


def d4rl_arrays(trajectories: Trajectories) -> dict[str, np.ndarray]:
    """The arrays of a D4RL file as D4RL itself writes them: a cut episode has no flag at all."""
    timeouts = np.zeros(trajectories.num_steps, dtype=bool)
    timeouts[trajectories.episode_starts[1:] - 1] = trajectories.episode_ends == TIME_LIMIT
    return {
        "observations": trajectories.observations,
        "actions": trajectories.actions,
        "rewards": trajectories.rewards,
        "terminals": trajectories.terminated(),
        "timeouts": timeouts,
        "next_observations": trajectories.next_observations(),
    }


def write_arrays(path: Path, arrays: dict[str, Any], env_id: str | None = "Hopper-v4") -> Path:
    """A plain HDF5 file with these arrays, and the environment as its attribute unless None."""
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file[key] = values
        if env_id is not None:
            file.attrs["env_id"] = env_id
    return path


def assert_same(one: Trajectories, other: Trajectories) -> None:
    """Bit for bit the same arrays, the same values missing, and the same metadata."""
    for name in KNOWN:
        assert (getattr(one, name) is None) == (getattr(other, name) is None), name
    for name in (*ARRAYS, *KNOWN):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.metadata == other.metadata
