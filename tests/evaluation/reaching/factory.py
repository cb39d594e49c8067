"""Recorded episodes of two planners on a small made-up task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from m3pc_ray.environments.observation_names import observation_names
from m3pc_ray.evaluation.reaching.outside_data import DataCloud
from m3pc_ray.evaluation.reaching.record import ReachSetting, RecordedEpisode, write_record
from m3pc_ray.evaluation.reaching.rows import make_row
from m3pc_ray.goals.success import BeyondData
from m3pc_ray.trajectories.statistics import compute_statistics
from tests.trajectories.factory import OBSERVATION_DIM, make_trajectories

KEY = 4
PLANNED = 20
SUCCESS = BeyondData(KEY, 0.5, 1, 3, name="the foot joint")


def make_cloud() -> DataCloud:
    data = make_trajectories([80] * 5)
    return DataCloud.fit(data, compute_statistics(data, "sum", 1000), seed=0)


def make_setting(cloud: DataCloud, *plotted: int) -> ReachSetting:
    names = observation_names("Hopper-v4", OBSERVATION_DIM)
    std = cloud.std
    return ReachSetting(
        "hopper-test", "Hopper-v4", names, std, 0.008, KEY, plotted or (KEY, 1), SUCCESS.describe(), 0.5
    )


def make_episode(seed: int, steps: int = PLANNED, whole: bool = False, gain: float = 1.0) -> RecordedEpisode:
    """A ramp of the key entry with a waypoint every 5th step; terminated where it is shorter than the plan."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0.0, 1.0, PLANNED + 1)
    wanted = np.full((PLANNED + 1, OBSERVATION_DIM), np.nan, dtype=np.float32)
    wanted[5::5, KEY] = ramp[5::5]
    if whole:
        wanted[5::5] = np.where(np.arange(OBSERVATION_DIM) == KEY, ramp[5::5, np.newaxis], 0.25)
    reached = rng.normal(size=(steps + 1, OBSERVATION_DIM)).astype(np.float32)
    reached[:, KEY] = gain * ramp[: steps + 1]
    forward = None if seed % 2 else np.linspace(0.0, 2.0, steps + 1)
    return RecordedEpisode(seed, reached, wanted, steps < PLANNED, forward)


def make_record(folder: Path, *, whole: bool = False, plotted: tuple[int, ...] = (KEY, 1)) -> dict[str, Any]:
    """Writes a record; gives what was written: `episodes`, `rows`, `setting`, `cloud`."""
    cloud = make_cloud()
    setting = make_setting(cloud, *plotted)
    episodes = {
        "backward": [make_episode(seed, whole=whole) for seed in range(3)],
        "bc": [make_episode(0, 12, whole, 0.1), make_episode(1, whole=whole, gain=0.1)],
    }
    rows = [make_row(planner, played, setting, SUCCESS, cloud) for planner, played in episodes.items()]
    write_record(folder, setting, episodes, rows, cloud)
    return {"episodes": episodes, "rows": rows, "setting": setting, "cloud": cloud}
