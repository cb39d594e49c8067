"""`recipe.json`: how a collected data set was, or is being, made.

kind          `sac` or `rollouts`
status        running, interrupted, failed or finished
asked         what was asked for; must be the same for a collection to go on
sittings      one entry a start of the command: when, the whole command, versions, processor, threads
...           what the kind of collection adds: evaluations, source, outcome of every data set
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from m3pc_ray.environments.manipulation.tasks import TASKS
from m3pc_ray.errors import UserError
from m3pc_ray.training.run_folder import lock_file, package_versions, write_atomically
from m3pc_ray.trajectories.d4rl import write_hdf5
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.files import replacing
from m3pc_ray.trajectories.robomimic_writer import write_robomimic
from m3pc_ray.trajectories.store import write_store
from m3pc_ray.trajectories.summary import summarise

FILE = "recipe.json"
EPISODES = "episodes"
"""Folder of episodes under way; removed with the collection's end."""
_SUMMARY = ("episodes", "steps", "return_min", "return_mean", "return_max", "return_std", "score_mean", "length_mean")


class Recipe:
    """The recipe of one folder, in memory and on disk."""

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.folder, self.content = folder, content

    @property
    def finished(self) -> bool:
        return self.content["status"] == "finished"

    def update(self, **values: Any) -> None:
        """Replaces top-level entries, in the file too. Raises UserError where it cannot be written."""
        self.content |= values
        path = self.folder / FILE
        try:
            write_atomically(path, json.dumps(self.content, indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error

    def write_dataset(
        self,
        data: Trajectories,
        name: str,
        origin: str,
        told: dict[str, str | int | float],
        masks: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Writes FOLDER/name, a trajectory store, and FOLDER/name.hdf5, each complete or not at all.

        The HDF5 file has D4RL's layout, and robomimic's for a manipulation task.

        told: attributes of the file in D4RL's layout, besides the figures of its returns.
        masks: names of episodes' indices, of the file in robomimic's layout.
        """
        versions = self.content["sittings"][-1]["versions"]
        called = f"{data.metadata.environment_id.rsplit('/', 1)[-1].lower()}-{name}-s{self.content['asked']['seed']}"
        metadata = data.metadata.replace(name=called, origin=origin, versions=versions)
        data = dataclasses.replace(data, metadata=metadata)
        summary = {key: value for key, value in summarise(data).items() if key in _SUMMARY and value is not None}
        write_store(data, self.folder / name, overwrite=True)
        with replacing(self.folder / f"{name}.hdf5", overwrite=True) as fresh:
            if metadata.environment_id in TASKS:
                write_robomimic(data, fresh, masks)
            else:
                layout = "D4RL gym-mujoco v2 layout; made by m3pc data collect, not by D4RL"
                attributes = {"layout": layout, "origin": origin, "versions": json.dumps(versions), **told, **summary}
                write_hdf5(data, fresh, attributes)
        self.update(datasets={**self.content.get("datasets", {}), name: {"origin": origin, **summary}})


@contextlib.contextmanager
def open_recipe(folder: Path, kind: str, asked: dict[str, Any], command: str) -> Iterator[Recipe]:
    """The recipe of a folder, made or gone on with, for this process alone; the block's end sets its status.

    Raises UserError where the folder holds something else, was asked for something else, or is being worked on.
    """
    path = folder / FILE
    if folder.is_dir() and any(folder.iterdir()) and not path.is_file() and not _only_lock(folder):
        raise UserError(f"{folder}: not empty and no collected data, so it is not touched; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from error
    with lock_file(folder / ".lock", f"{folder}: another process is collecting there"):
        recipe = Recipe(folder, _read(path) if path.is_file() else {"kind": kind, "asked": asked, "sittings": []})
        _check_same(recipe, kind, asked)
        if recipe.content.get("status") == "finished":
            yield recipe
            return
        recipe.update(status="running", sittings=[*recipe.content["sittings"], _sitting(command)])
        try:
            yield recipe
        except KeyboardInterrupt:
            recipe.update(status="interrupted")
            raise
        except BaseException:
            with contextlib.suppress(UserError):  # what the user must read is the error that is on its way
                recipe.update(status="failed")
            raise
        recipe.update(status="finished")


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not {"kind", "status", "asked", "sittings"} <= set(content):
            raise ValueError("entries are missing")
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    return content


def _check_same(recipe: Recipe, kind: str, asked: dict[str, Any]) -> None:
    advice = "repeat what was asked there, or name another folder"
    if recipe.content["kind"] != kind:
        raise UserError(f"{recipe.folder}: a collection of another kind ({recipe.content['kind']}); {advice}")
    before = _flat(recipe.content["asked"])
    now = _flat(json.loads(json.dumps(asked)))
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            raise UserError(
                f"{recipe.folder}: is being collected with {name} = {before.get(name)}, not {now.get(name)}; {advice}"
            )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _only_lock(folder: Path) -> bool:
    return [entry.name for entry in folder.iterdir()] == [".lock"]


def _sitting(command: str) -> dict[str, Any]:
    import torch

    versions = package_versions()
    for package in ("stable_baselines3", "h5py", "robosuite"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "command": command,
        "versions": versions,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "threads": torch.get_num_threads(),
    }
