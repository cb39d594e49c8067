"""What `m3pc reach` leaves on disk for figures: every state wanted and reached, and the data they are compared with.

reach.json        the rows of the table, the task, what the entries of a state are, how states are projected
episodes.parquet  a row a step: planner, episode, seed, step, terminated, reached, wanted, forward
cloud.parquet     a row a state of the data, projected: first, second

`m3pc_ray.report.reach_record` reads them. Names of columns and keys are a promise between the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from m3pc_ray.environments.observation_names import Dimension
from m3pc_ray.evaluation.reaching.outside_data import DataCloud
from m3pc_ray.goals.task import Plane
from m3pc_ray.trajectories.episodes import write_json
from m3pc_ray.trajectories.files import replacing

FORMAT = 1
"""Version of the files."""
CLOUD_POINTS = 4000
"""States of the data kept for the picture, at most."""

_EPISODES = pa.schema(
    [
        ("planner", pa.string()),
        ("episode", pa.int32()),
        ("seed", pa.int64()),
        ("step", pa.int32()),
        ("terminated", pa.bool_()),
        ("reached", pa.list_(pa.float32())),  # null after the episode's end
        ("wanted", pa.list_(pa.float32())),  # NaN: nothing is wanted of that entry
        ("forward", pa.float64()),  # null where unknown
    ]
)


@dataclass(frozen=True, eq=False)
class RecordedEpisode:
    """One episode on the way to its goals, raw units."""

    seed: int
    """Of its reset."""
    reached: NDArray[np.float32]
    """(steps + 1, observation_dim) from the first observation on."""
    wanted: NDArray[np.float32]
    """(planned steps + 1, observation_dim), as long as the plan even when the episode ended before; NaN: not wanted."""
    terminated: bool
    """Whether the task itself ended the episode at the last state of `reached`."""
    forward: NDArray[np.float64] | None = None
    """(steps + 1,) place along the track in m; None where unknown."""

    def __post_init__(self) -> None:
        steps = len(self.reached)
        fits = 0 < steps <= len(self.wanted) and self.reached.shape[1:] == self.wanted.shape[1:]
        if not fits or (self.forward is not None and self.forward.shape != (steps,)):
            forward = "unknown" if self.forward is None else self.forward.shape
            raise ValueError(f"reached {self.reached.shape}, wanted {self.wanted.shape}, forward {forward} do not fit")


@dataclass(frozen=True, eq=False)
class ReachSetting:
    """What all planners of a comparison share."""

    task: str
    """What is to be reached, such as `hopper-wiggle`."""
    environment: str
    """Gymnasium id."""
    dimensions: Sequence[Dimension]
    """(observation_dim,) entries of a state."""
    std: NDArray[np.float32]
    """(observation_dim,) standard deviation of the data: the unit of errors."""
    dt: float
    """Seconds between two states."""
    key_dimension: int
    """The entry that the goal is about."""
    plotted_dimensions: Sequence[int]
    """Entries that a figure shows, the key one usually first."""
    success: str
    """The sentence that says when an episode succeeds."""
    tolerance: float
    """Error at which a waypoint counts as visited."""
    waypoints: NDArray[np.float32] | None = None
    """(K, observation_dim) states given to the planners, NaN where free; None: not recorded."""
    plane: Plane | None = None
    """Of a task about a place."""


def write_record(
    folder: str | Path,
    setting: ReachSetting,
    episodes: Mapping[str, Sequence[RecordedEpisode]],
    rows: Sequence[Mapping[str, Any]],
    cloud: DataCloud,
    *,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write the three files into a new folder, complete or not at all.

    Args:
        folder: must not exist, unless `overwrite`.
        setting: what the planners share.
        episodes: by planner, in the order of the figures' panels.
        rows: of `rows.make_row`, as the table shows them; a NaN becomes null.
        cloud: the data.
        seed: of the draw of `CLOUD_POINTS` of the cloud's states.
        overwrite: whether an existing folder is replaced.

    Raises:
        UserError: the folder exists, or cannot be written.
    """
    with replacing(folder, overwrite) as target:
        target.mkdir()
        parquet.write_table(_episode_table(episodes), target / "episodes.parquet")
        points = cloud.projected_states()
        if len(points) > CLOUD_POINTS:
            points = points[np.random.default_rng(seed).choice(len(points), CLOUD_POINTS, replace=False)]
        parquet.write_table(pa.table({"first": points[:, 0], "second": points[:, 1]}), target / "cloud.parquet")
        write_json(target / "reach.json", _facts(setting, rows, cloud))
    return Path(folder)


def plain(value: Any) -> Any:
    """The value as strict JSON has it: NaN and infinities become null, NumPy's numbers and arrays Python's."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _facts(setting: ReachSetting, rows: Sequence[Mapping[str, Any]], cloud: DataCloud) -> dict[str, Any]:
    offset, matrix = cloud.projection()
    projection = {"offset": offset, "matrix": matrix, "explained": cloud.explained}
    dimensions = [asdict(dimension) for dimension in setting.dimensions]
    apart = ("dimensions", "plane")
    shared = {name: getattr(setting, name) for name in ReachSetting.__dataclass_fields__ if name not in apart}
    facts = {"format": FORMAT, **shared, "dimensions": dimensions, "projection": projection, "rows": list(rows)}
    return plain(facts | ({"plane": vars(setting.plane)} if setting.plane else {}))


def _episode_table(episodes: Mapping[str, Sequence[RecordedEpisode]]) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [] for name in _EPISODES.names}
    for planner, played in episodes.items():
        for index, episode in enumerate(played):
            planned, missing = len(episode.wanted), len(episode.wanted) - len(episode.reached)
            forward = [None] * len(episode.reached) if episode.forward is None else plain(episode.forward)
            columns["planner"] += [planner] * planned
            columns["episode"] += [index] * planned
            columns["seed"] += [episode.seed] * planned
            columns["step"] += range(planned)
            columns["terminated"] += [episode.terminated] * planned
            columns["reached"] += [*episode.reached, *[None] * missing]
            columns["wanted"] += list(episode.wanted)
            columns["forward"] += [*forward, *[None] * missing]
    return pa.table(columns, schema=_EPISODES)
