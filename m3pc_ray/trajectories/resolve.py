"""From a reference, as a user types it, to a data set.

| reference | is |
|---|---|
| `bundled/hopper` | the set inside the package |
| a path | a Parquet store (folder), a D4RL HDF5 file or a Minari folder |
| `d4rl/hopper-medium-v2` | a D4RL file: in the data folder, else downloaded into it |
| `mujoco/hopper/medium-v0` | a Minari id: in Minari's own folder, else downloaded by Minari |
"""

from __future__ import annotations

from pathlib import Path

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories import d4rl
from m3pc_ray.trajectories.episodes import Trajectories


def load(reference: str, environment: str = "", folder: str = "") -> Trajectories:
    """The data set behind `reference`. Raises UserError where there is none or it is damaged."""
    path = Path(reference).expanduser()
    if path.exists():
        return d4rl.read_hdf5(path, environment)
    raise UserError(f"no data set {reference!r}")
