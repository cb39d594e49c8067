"""The on-disk form: a folder with one Parquet file of steps and `_metadata.json`.

    NAME/
      episodes.parquet    one row a step, episodes one after another; RLlib's offline readers take the folder as it is
      _metadata.json      format version, environment, spaces, reference scores, kinds of ends, checksum

| column | type | holds |
|---|---|---|
| eps_id | string | the episode, the same for all its steps |
| obs, actions, new_obs | list<float32> | observation, action, observation after it |
| rewards | float32 | |
| terminateds | bool | the task truly ended with this step |
| truncateds | bool | the episode was stopped with this step, by its time limit or because the data ends |

Parquet has no word for the kind of an end or for an unknown final observation: `_metadata.json` lists both per episode.
An unknown one repeats the last observation in `new_obs`, since RLlib would learn from a NaN.

A missing action or reward is null; `_metadata.json` names the columns that have nulls under `nulls_in`, and in a store
without that key there are none. RLlib cannot read nulls: `Trajectories.complete_episodes` leaves those episodes out.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories import validation
from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories, write_json
from m3pc_ray.trajectories.files import replacing
from m3pc_ray.trajectories.validity import Known, flags_of, normalise, spread

FORMAT = "m3pc-trajectories"
FORMAT_VERSION = 1
DATA_FILE = "episodes.parquet"
METADATA_FILE = "_metadata.json"
"""The underscore keeps pandas and pyarrow, given the folder, from taking it for Parquet."""

_LIST = pa.list_(pa.field("element", pa.float32()))
_COLUMNS = {
    "eps_id": pa.string(),
    "obs": _LIST,
    "actions": _LIST,
    "new_obs": _LIST,
    "rewards": pa.float32(),
    "terminateds": pa.bool_(),
    "truncateds": pa.bool_(),
}
_NULLABLE = ("actions", "rewards")
"""Columns in which a value may be missing."""
_FLOAT_LEAVES = ["obs.list.element", "actions.list.element", "new_obs.list.element", "rewards"]


def is_store(path: str | Path) -> bool:
    """Whether the folder calls itself a trajectory store."""
    return (Path(path) / METADATA_FILE).is_file() and (Path(path) / DATA_FILE).exists()


def checksum(trajectories: Trajectories) -> str:
    """SHA-256 of everything a store must give back bit for bit, whatever its encoding and compression.

    Of complete data it is what it was before actions and rewards could be missing.
    """
    digest = hashlib.sha256()
    for name, kind in (
        ("observations", "<f4"),
        ("actions", "<f4"),
        ("rewards", "<f4"),
        ("episode_starts", "<i8"),
        ("episode_ends", "<i1"),
        ("final_observations", "<f4"),
    ):
        values = getattr(trajectories, name)
        if name == "final_observations":
            # every unknown row counts alike, whichever of the many NaN bit patterns it holds
            values = np.where(np.isnan(values), np.float32(np.nan), values)
        digest.update(f"{name}{values.shape}".encode())
        digest.update(np.ascontiguousarray(values, dtype=kind).data)
    for name in ("actions_known", "rewards_known"):
        known = getattr(trajectories, name)
        if known is not None:
            digest.update(f"{name}{known.shape}".encode())
            digest.update(np.ascontiguousarray(known, dtype="|b1").data)
    return f"sha256:{digest.hexdigest()}"


def write_store(
    trajectories: Trajectories, folder: str | Path, overwrite: bool = False, compression_level: int = 9
) -> None:
    """Write a store, complete or not at all.

    Raises UserError when `folder` exists, unless `overwrite` is set and it is a store.
    """
    folder = Path(folder)
    if folder.exists() and overwrite and not is_store(folder):
        raise UserError(f"{folder} exists and is no trajectory store; it will not be overwritten, choose another name")
    last_rows = trajectories.episode_starts[1:] - 1
    final_known = ~np.isnan(trajectories.final_observations).any(axis=1)
    following = trajectories.next_observations()
    unknown = last_rows[~final_known]
    following[unknown] = trajectories.observations[unknown]
    truncated = np.zeros(trajectories.num_steps, dtype=bool)
    truncated[last_rows] = trajectories.episode_ends != EpisodeEnd.TERMINATED
    names = pa.array([f"{trajectories.metadata.name}-{episode:06d}" for episode in range(trajectories.num_episodes)])
    episode_of_row = np.repeat(np.arange(trajectories.num_episodes, dtype=np.int32), trajectories.lengths)
    columns = {
        "eps_id": names.take(pa.array(episode_of_row)),
        "obs": _lists(trajectories.observations),
        "actions": _lists(trajectories.actions, trajectories.actions_known),
        "new_obs": _lists(following),
        "rewards": pa.array(trajectories.rewards, mask=_nulls(trajectories.rewards_known)),
        "terminateds": pa.array(trajectories.terminated()),
        "truncateds": pa.array(truncated),
    }
    table = pa.table([columns[name] for name in _COLUMNS], schema=pa.schema(list(_COLUMNS.items())))
    described = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "checksum": checksum(trajectories),
        "steps": trajectories.num_steps,
        "episodes": trajectories.num_episodes,
        "dataset": trajectories.metadata.to_json(),
        "episode_ends": [EpisodeEnd(end).name.lower() for end in trajectories.episode_ends],
        "unknown_final_observations": np.flatnonzero(~final_known).tolist(),
    }
    with_nulls = [name for name in _NULLABLE if getattr(trajectories, f"{name}_known") is not None]
    if with_nulls:
        described["nulls_in"] = with_nulls
    with replacing(folder, overwrite) as fresh:
        fresh.mkdir()
        parquet.write_table(
            table,
            fresh / DATA_FILE,
            compression="zstd",
            compression_level=compression_level,
            use_dictionary=["eps_id"],
            column_encoding=dict.fromkeys(_FLOAT_LEAVES, "BYTE_STREAM_SPLIT"),
            row_group_size=1 << 17,
        )
        write_json(fresh / METADATA_FILE, described)


def read_store(folder: str | Path, environment: str = "") -> Trajectories:
    """Read a store and verify its checksum. `environment` replaces the environment it names.

    Raises UserError, one line that names file, key and index, for a damaged or foreign folder.
    """
    folder = Path(folder)
    described = _read_metadata(folder / METADATA_FILE)
    source = str(folder / DATA_FILE)
    table = _read_table(folder / DATA_FILE)
    metadata: DatasetMetadata = described["dataset"]
    if environment:
        was = metadata
        facts = validation.environment_facts(validation.modern_environment_id(environment))
        metadata = validation.metadata_of(facts, was.name, versions=was.versions, origin=was.origin)

    observations = _matrix(source, table, "obs")
    actions_known, rewards_known = (_known(table, name, described) for name in _NULLABLE)
    actions = _matrix(source, table, "actions", actions_known, len(metadata.action_low))
    following = _matrix(source, table, "new_obs")
    rewards = _vector(source, table, "rewards", np.float32, rewards_known)
    validation.check_steps(source, {"obs": len(observations)})
    of = metadata.environment_id
    for key, values, bounds in (
        ("obs", observations, metadata.observation_low),
        ("new_obs", following, metadata.observation_low),
        ("actions", actions, metadata.action_low),
    ):
        validation.check_width(source, key, values.shape[1], len(bounds), of)
        validation.check_finite(source, key, values)
    validation.check_finite(source, "rewards", rewards)
    validation.check_actions(source, "actions", actions, metadata.action_low, metadata.action_high, actions_known)

    starts = _episode_starts(table)
    ends = np.array([EpisodeEnd[end.upper()] for end in described["episode_ends"]], dtype=np.int8)
    if len(ends) != len(starts) - 1:
        raise UserError(f"{source}: holds {len(starts) - 1} episodes, {METADATA_FILE} describes {len(ends)}")
    finals = following[starts[1:] - 1].copy()
    finals[np.asarray(described["unknown_final_observations"], dtype=np.int64)] = np.nan
    trajectories = Trajectories(
        observations, actions, rewards, starts, ends, finals, metadata, actions_known, rewards_known
    )
    flags = _vector(source, table, "terminateds", np.bool_)
    if checksum(trajectories) != described["checksum"] or not np.array_equal(flags, trajectories.terminated()):
        raise UserError(f"{source}: the data does not match the checksum in {METADATA_FILE}; it was changed or damaged")
    return trajectories


def read_description(folder: str | Path) -> DatasetMetadata:
    """What a store says about itself, without reading its steps. Raises UserError as `read_store` does."""
    metadata: DatasetMetadata = _read_metadata(Path(folder) / METADATA_FILE)["dataset"]
    return metadata


def _read_metadata(path: Path) -> dict[str, Any]:
    """The parsed description, its data set and its ends checked for form."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; a trajectory store has one")
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no readable JSON ({error})") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise UserError(f"{path}: key 'format' is not '{FORMAT}', this is no trajectory store")
    if described.get("format_version") != FORMAT_VERSION:
        version = described.get("format_version")
        raise UserError(f"{path}: key 'format_version' is {version}, this version reads {FORMAT_VERSION}")
    for key in ("checksum", "dataset", "episode_ends", "unknown_final_observations"):
        if key not in described:
            raise UserError(f"{path}: key '{key}' is missing")
    try:
        described["dataset"] = DatasetMetadata.from_json(described["dataset"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: key 'dataset' is damaged ({type(error).__name__}: {error})") from error
    kinds = [end.name.lower() for end in EpisodeEnd]
    for index, end in enumerate(described["episode_ends"]):
        if end not in kinds:
            raise UserError(f"{path}: episode_ends[{index}] is {end!r}; it must be one of {', '.join(kinds)}")
    for index, episode in enumerate(described["unknown_final_observations"]):
        if not isinstance(episode, int) or not 0 <= episode < len(described["episode_ends"]):
            raise UserError(f"{path}: unknown_final_observations[{index}] is {episode!r}, no number of an episode")
    nulls_in = described.get("nulls_in", [])
    if not isinstance(nulls_in, list) or not all(name in _NULLABLE for name in nulls_in):
        raise UserError(f"{path}: nulls_in is {nulls_in!r}; only {' and '.join(_NULLABLE)} may have nulls")
    return described


def _read_table(path: Path) -> pa.Table:
    if not path.is_file():
        raise UserError(f"{path}: no such file; a trajectory store has one")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty")
    try:
        with parquet.ParquetFile(path, read_dictionary=["eps_id"]) as file:
            missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
            if missing:
                raise UserError(f"{path}: column '{missing[0]}' is missing")
            return file.read(columns=list(_COLUMNS)).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: no readable Parquet file ({reason})") from error


def _nulls(known: Known) -> Known:
    """(steps,) True where Arrow shall put a null."""
    return None if known is None else ~known


def _known(table: pa.Table, name: str, described: dict[str, Any]) -> Known:
    """Where the column has a value, if it may lack some."""
    if name not in described.get("nulls_in", []):
        return None
    return normalise(table.column(name).is_valid().to_numpy(), table.num_rows)


def _lists(values: NDArray[np.float32], known: Known = None) -> pa.ListArray:
    """(rows, size) as a list column, null where unknown, without a copy of the numbers."""
    rows, size = values.shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(size))
    nulls = None if known is None else pa.array(_nulls(known))
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)), type=_LIST, mask=nulls)


def _array(source: str, table: pa.Table, name: str, known: Known = None) -> pa.Array:
    """The column in one piece; nulls are an error unless `known` tells of them."""
    column = table.column(name)
    if column.null_count and known is None:
        index = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise UserError(f"{source}: {name}[{index}] is null; every value must be there")
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _matrix(
    source: str, table: pa.Table, name: str, known: Known = None, size: int | None = None
) -> NDArray[np.float32]:
    """(rows, size) from a list column whose lists are equally long; 0 where unknown.

    The argument `size` is taken where no list is known.
    """
    if table.num_rows == 0:
        raise UserError(f"{source}: {name} holds no step")
    if not pa.types.is_list(table.schema.field(name).type):
        raise UserError(f"{source}: {name} is a column of {table.schema.field(name).type}; list<float> is needed")
    array = _array(source, table, name, known)
    rows = np.flatnonzero(flags_of(known, table.num_rows))
    if not len(rows) and size is not None:
        return np.zeros((table.num_rows, size), dtype=np.float32)
    sizes, first = np.diff(array.offsets.to_numpy()), rows[0]
    if np.any(sizes[rows] != sizes[first]):
        index = rows[np.flatnonzero(sizes[rows] != sizes[first])[0]]
        raise UserError(f"{source}: {name}[{index}] has {sizes[index]} values, {name}[{first}] has {sizes[first]}")
    values = array.flatten()  # leaves out nulls
    if not pa.types.is_floating(values.type) or values.null_count:
        raise UserError(f"{source}: {name} holds {values.type} with {values.null_count} nulls; plain floats are needed")
    numbers = values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(rows), int(sizes[first]))
    return numbers if known is None else spread(numbers, known)


def _vector(source: str, table: pa.Table, name: str, kind: type, known: Known = None) -> NDArray[Any]:
    """(rows,) from a column of numbers or flags; 0 where unknown."""
    array = _array(source, table, name, known)
    if not (pa.types.is_floating(array.type) or pa.types.is_boolean(array.type)):
        raise UserError(f"{source}: {name} is a column of {array.type}; numbers are needed")
    if known is not None:
        return spread(array.drop_null().to_numpy(zero_copy_only=False).astype(kind), known)
    return array.to_numpy(zero_copy_only=False).astype(kind)


def _episode_starts(table: pa.Table) -> NDArray[np.int64]:
    """(episodes + 1,): a new episode starts where `eps_id` changes."""
    codes = table.column("eps_id").unify_dictionaries().combine_chunks()
    codes = codes.chunk(0) if isinstance(codes, pa.ChunkedArray) else codes
    numbers = codes.indices.to_numpy()
    changes = np.flatnonzero(numbers[1:] != numbers[:-1]) + 1
    return np.concatenate([[0], changes, [len(numbers)]]).astype(np.int64)
