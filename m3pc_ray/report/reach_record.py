"""Reading what `m3pc reach` recorded: reach.json, episodes.parquet and cloud.parquet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as parquet

from m3pc_ray.errors import UserError

FORMAT = 1
"""Version of the files that this reader knows."""
_COLUMNS = ("planner", "episode", "seed", "step", "terminated", "reached", "wanted", "forward")

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode, raw units."""

    planner: str
    seed: int
    reached: FloatArray
    """(steps + 1, observation_dim)"""
    wanted: FloatArray
    """(planned steps + 1, observation_dim), NaN where nothing is wanted; longer than `reached` after an early end."""
    terminated: bool
    forward: FloatArray
    """(steps + 1,) place along the track in m, NaN where unknown."""


@dataclass(frozen=True, eq=False)
class RecordedPlane:
    """Two dimensions in which a task about a place is looked at from above."""

    dimensions: tuple[int, int]
    """Entries of a state: to the right and upwards."""
    target: FloatArray
    """(2, 2) smallest and largest value of each where success is; NaN where anything will do."""
    demonstrated: FloatArray
    """(n, 2) where the data's episodes ended."""


@dataclass(frozen=True, eq=False)
class ReachRecord:
    """A recorded comparison of planners on one task."""

    task: str
    environment: str
    success: str
    labels: tuple[str, ...]
    """(observation_dim,) what axes call the entries of a state, such as `thigh joint (rad)`."""
    std: FloatArray
    """(observation_dim,) standard deviation of the data."""
    dt: float
    """Seconds between two states."""
    key_dimension: int
    plotted_dimensions: tuple[int, ...]
    rows: tuple[dict[str, Any], ...]
    """Of the table, by planner."""
    episodes: tuple[Episode, ...]
    points: FloatArray
    """(n, 2) states of the data in the plane of their two largest variances."""
    explained: tuple[float, float]
    """Share of the variance along each."""
    offset: FloatArray
    """(observation_dim,)"""
    matrix: FloatArray
    """(2, observation_dim)"""
    waypoints: FloatArray
    """(K, observation_dim) states given to the planners, NaN where free; none where they were not recorded."""
    plane: RecordedPlane | None = None
    """Of a task about a place."""

    @property
    def planners(self) -> list[str]:
        """In the order in which they were recorded."""
        return list(dict.fromkeys(episode.planner for episode in self.episodes))

    def of(self, planner: str) -> list[Episode]:
        """The planner's episodes, in order."""
        return [episode for episode in self.episodes if episode.planner == planner]

    def project(self, states: FloatArray) -> FloatArray:
        """(n, 2) places in the plane of raw states (n, observation_dim)."""
        return (states - self.offset) @ self.matrix.T


def read_reach(folder: str | Path) -> ReachRecord:
    """The record in a folder.

    Raises:
        UserError: a file is missing, cannot be read, is of another version, or lacks a key, column or row.
    """
    folder = Path(folder).expanduser()
    path = folder / "reach.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); a folder written by `m3pc reach` has it"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from error
    found = facts.get("format") if isinstance(facts, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: has format {found}; this version reads format {FORMAT}")
    episodes = _read_episodes(folder / "episodes.parquet")
    cloud = _read_table(folder / "cloud.parquet", ("first", "second"))
    try:
        projection = facts["projection"]
        record = ReachRecord(
            task=facts["task"],
            environment=facts["environment"],
            success=facts["success"],
            labels=tuple(_label(dimension) for dimension in facts["dimensions"]),
            std=np.asarray(facts["std"], dtype=np.float64),
            dt=float(facts["dt"]),
            key_dimension=int(facts["key_dimension"]),
            plotted_dimensions=tuple(int(dimension) for dimension in facts["plotted_dimensions"]),
            rows=tuple(facts["rows"]),
            episodes=tuple(episodes),
            points=np.stack([cloud["first"].to_numpy(), cloud["second"].to_numpy()], axis=1).astype(np.float64),
            explained=(float(projection["explained"][0]), float(projection["explained"][1])),
            offset=np.asarray(projection["offset"], dtype=np.float64),
            matrix=np.asarray(projection["matrix"], dtype=np.float64),
            waypoints=np.array(facts.get("waypoints") or [], dtype=np.float64).reshape(-1, len(facts["std"])),
            plane=_plane(facts["plane"]) if facts.get("plane") else None,
        )
    except KeyError as error:
        raise UserError(f"{path}: lacks {error}") from error
    except (TypeError, ValueError, IndexError) as error:
        raise UserError(f"{path}: holds a value of the wrong kind ({error})") from error
    dimension = len(record.labels)
    named = (record.key_dimension, *record.plotted_dimensions, *(record.plane.dimensions if record.plane else ()))
    wrong = [entry for entry in named if not 0 <= entry < dimension]
    if wrong:
        raise UserError(f"{path}: names dimension {wrong[0]}; states have {dimension} entries")
    if any(episode.reached.shape[1:] != (dimension,) for episode in episodes):
        raise UserError(f"{path}: names {dimension} entries of a state; those in episodes.parquet have another number")
    return record


def _plane(facts: dict[str, Any]) -> RecordedPlane:
    across, upwards = facts["dimensions"]
    return RecordedPlane(
        (int(across), int(upwards)),
        np.array(facts["target"], dtype=np.float64).reshape(2, 2),
        np.array(facts["demonstrated"], dtype=np.float64).reshape(-1, 2),
    )


def _read_table(path: Path, columns: tuple[str, ...]) -> pa.Table:
    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise UserError(f"{path}: lacks column {missing[0]}")
    return table


def _read_episodes(path: Path) -> list[Episode]:
    table = _read_table(path, _COLUMNS)
    if not table.num_rows:
        raise UserError(f"{path}: holds no episode")
    rows: dict[tuple[str, int], list[int]] = {}
    for row, key in enumerate(zip(table["planner"].to_pylist(), table["episode"].to_pylist(), strict=True)):
        rows.setdefault(key, []).append(row)
    episodes = []
    for key, own in rows.items():
        part = table.take(own).sort_by("step")
        reached = [state for state in part["reached"].to_pylist() if state is not None]
        forward = [np.nan if place is None else place for place in part["forward"].to_pylist()]
        try:
            episode = Episode(
                planner=str(key[0]),
                seed=part["seed"][0].as_py(),
                reached=np.asarray(reached, dtype=np.float64),
                wanted=np.asarray(part["wanted"].to_pylist(), dtype=np.float64),
                terminated=part["terminated"][0].as_py(),
                forward=np.asarray(forward, dtype=np.float64)[: len(reached)],
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: states of episode {key[1]} of {key[0]} differ in size") from error
        if episode.reached.ndim != 2 or episode.reached.shape[1:] != episode.wanted.shape[1:]:
            raise UserError(f"{path}: states of episode {key[1]} of {key[0]} differ in size")
        episodes.append(episode)
    return episodes


def _label(dimension: dict[str, str]) -> str:
    return dimension["name"].replace("_", " ") + (f" ({dimension['unit']})" if dimension["unit"] else "")
