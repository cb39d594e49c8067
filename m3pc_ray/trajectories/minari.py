"""Minari data sets, behind the extra `minari`. The format wants every action and reward: a NaN is an error."""

from __future__ import annotations

import contextlib
import importlib
import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories import validation
from m3pc_ray.trajectories.d4rl import kinds_of_ends
from m3pc_ray.trajectories.episodes import DatasetMetadata, Trajectories

HINT = "pip install 'm3pc-ray[minari]'"


def datasets_folder() -> Path:
    """Where Minari keeps its data sets: $MINARI_DATASETS_PATH, else ~/.minari/datasets."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def is_minari_folder(path: str | Path) -> bool:
    """Whether `path` is the folder of a Minari data set, or the `data` folder inside one."""
    return data_folder(path) is not None


def data_folder(path: str | Path) -> Path | None:
    """The folder that holds a Minari data set's files, None where `path` has none."""
    for candidate in (Path(path) / "data", Path(path)):
        if (candidate / "metadata.json").is_file() or (candidate / "main_data.hdf5").is_file():
            return candidate
    return None


def local_ids() -> list[str]:
    """Ids of the data sets in Minari's folder, found without importing Minari."""
    root = datasets_folder()
    found = (data_folder(path.parent) for path in root.rglob("data") if path.is_dir())
    return sorted(str(folder.parent.relative_to(root)) for folder in found if folder is not None)


def read_minari(reference: str | Path, environment: str = "") -> Trajectories:
    """Read a Minari data set, given its folder or its id (which Minari downloads where it is not on this machine).

    Truncated episodes count as ended by the time limit when they are as long as the longest truncated one, otherwise
    as cut; an episode without any end flag is cut. The environment: `environment`, else the data set's own.
    Raises UserError where Minari is missing, the data set cannot be read, or its spaces are no flat Boxes.
    """
    try:
        minari = importlib.import_module("minari")
    except ImportError as error:
        raise UserError(f"{reference}: reading Minari data sets needs the extra `minari`: {HINT}") from error
    source = str(reference)
    folder = data_folder(reference) or data_folder(datasets_folder() / reference)
    try:
        with contextlib.redirect_stdout(None):
            dataset = minari.MinariDataset(folder) if folder else minari.load_dataset(source, download=True)
        episodes = list(dataset.iterate_episodes())
    except Exception as error:  # h5py, JSON, hosting and Minari's own checks each raise their kind
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        what = "cannot be read" if folder else "is not on this machine and cannot be downloaded"
        raise UserError(f"Minari data set {source}: {what} ({type(error).__name__}: {reason})") from error
    if not episodes or not any(len(episode) for episode in episodes):
        raise UserError(f"Minari data set {source}: holds no step")
    metadata = _metadata(source, dataset, environment)

    observations, actions, rewards, ends, finals = [], [], [], [], []
    for number, episode in enumerate(episodes):
        where = f"Minari data set {source}, episode {number}"
        steps = len(episode.rewards)
        seen, done = _matrix(where, "observations", episode.observations), _matrix(where, "actions", episode.actions)
        if len(seen) == steps:  # the observation after the last action was not recorded
            seen = np.concatenate([seen, np.full((1, seen.shape[1]), np.nan, dtype=np.float32)])
            known = slice(0, steps)
        else:
            known = slice(None)
        validation.check_steps(where, {"rewards": steps, "actions": len(done), "observations": len(seen) - 1})
        validation.check_width(where, "observations", seen.shape[1], len(metadata.observation_low), "the environment")
        validation.check_width(where, "actions", done.shape[1], len(metadata.action_low), "the environment")
        earned = np.asarray(episode.rewards, dtype=np.float32).reshape(-1)
        validation.check_finite(where, "observations", seen[known])
        validation.check_finite(where, "actions", done)
        validation.check_finite(where, "rewards", earned)
        validation.check_actions(where, "actions", done, metadata.action_low, metadata.action_high)
        observations.append(seen[:-1])
        finals.append(seen[-1])
        actions.append(done)
        rewards.append(earned)
        ends.append((bool(episode.terminations[-1]), bool(episode.truncations[-1])))
    lengths = np.array([len(values) for values in rewards])
    terminated, truncated = np.array(ends).T
    return Trajectories(
        np.concatenate(observations),
        np.concatenate(actions),
        np.concatenate(rewards),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        kinds_of_ends(lengths, terminated, truncated),
        np.stack(finals),
        metadata,
    )


def _metadata(source: str, dataset: Any, environment: str) -> DatasetMetadata:
    spec = dataset.env_spec
    name = dataset.id.replace("/", "-")
    origin = f"Minari data set {dataset.id}"
    versions = {"minari": str(dataset.minari_version)}
    if environment:
        facts = validation.environment_facts(validation.modern_environment_id(environment))
        return validation.metadata_of(facts, name, origin=origin, versions=versions)
    if spec is None:
        raise UserError(
            f"Minari data set {source}: it names no environment; give one with --environment, "
            "for example --environment Hopper-v5"
        )
    for what, space in (("observation", dataset.observation_space), ("action", dataset.action_space)):
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise UserError(f"Minari data set {source}: its {what} space is {space}; a flat Box is needed")
    facts = validation.EnvironmentFacts(
        spec.id,
        dataset.observation_space.low.astype(np.float64),
        dataset.observation_space.high.astype(np.float64),
        dataset.action_space.low.astype(np.float64),
        dataset.action_space.high.astype(np.float64),
        int(spec.max_episode_steps or 0),
    )
    metadata = validation.metadata_of(facts, name, origin=origin, versions=versions)
    told = dataset.storage.metadata
    if metadata.reference_min_score is None and {"ref_min_score", "ref_max_score"} <= told.keys():
        return metadata.replace(
            reference_min_score=float(told["ref_min_score"]),
            reference_max_score=float(told["ref_max_score"]),
            reference_source=f"Minari, metadata of {dataset.id}",
        )
    return metadata


def _matrix(where: str, key: str, values: Any) -> NDArray[np.float32]:
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fiu":
        kind = f"an array {values.shape} of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
        raise UserError(f"{where}: {key} is {kind}; an array (steps, size) of numbers is needed")
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
