"""From a run's data set to the offline rows of its replay: filled by the run, or shared with others on the machine."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from m3pc_ray import __version__
from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.private_mapping import check_mapping_possible
from m3pc_ray.online.replay.replay_rows import ReplayRows, RowFormat, best_episodes, fill_rows
from m3pc_ray.online.replay.shared_folder import make_file, making, open_file, shared_folder
from m3pc_ray.online.replay.shared_rows import FORMAT_VERSION, DamagedFileError, map_rows, write_rows
from m3pc_ray.training.data_parts import data_parts, split_seed
from m3pc_ray.training.pretraining import load_data
from m3pc_ray.trajectories.episodes import DatasetMetadata, Trajectories
from m3pc_ray.trajectories.resolve import identity

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class OfflineData:
    """The offline part of a run's replay, and how to get it.

    With `data.share_memory` a file in the machine's temporary folder holds it, which the first run that needs it makes;
    a run that finds the file does not read the data set. The file's name is a digest of all that its rows depend on.
    """

    config: RunConfig
    row_format: RowFormat
    environment_id: str
    """What the run's weights were trained for, as the next two."""
    observation_dim: int
    action_dim: int

    @classmethod
    def of(cls, config: RunConfig, models: dict[str, Any]) -> OfflineData:
        """Of a run, from its configuration and `Models.description`, which is in every checkpoint as `models`."""
        metadata = DatasetMetadata.from_json(models["metadata"])
        low, high = (np.asarray(bounds, dtype=np.float32) for bounds in (metadata.action_low, metadata.action_high))
        row_format = RowFormat(config.data.return_scale, models["time_limit"], config.model.segment_length, low, high)
        return cls(config, row_format, metadata.environment_id, models["observation_dim"], models["action_dim"])

    def check(self) -> None:
        """Raises UserError where the data set cannot be read or does not belong to the run's weights.

        With `data.share_memory` the file is there afterwards.
        """
        if self.config.data.share_memory:
            self._share(0, "cpu")
        else:
            self.load()

    def rows(self, capacity: int, device: torch.device | str = "cpu") -> ReplayRows:
        """The offline rows with room for `capacity` online ones. Raises UserError as `check`."""
        if self.config.data.share_memory:
            return self._share(capacity, device)
        return self.fill(self.load(), capacity, device)

    def fill(self, trajectories: Trajectories, capacity: int, device: torch.device | str = "cpu") -> ReplayRows:
        """The same from the loaded data set."""
        return fill_rows(
            best_episodes(trajectories, self.config.online.offline_episodes), self.row_format, capacity, device
        )

    def load(self) -> Trajectories:
        """The episodes of the data set that the run may use, those without gaps. Raises UserError as `check`."""
        trajectories, name = load_data(self.config), self.config.data.dataset
        found, needed = trajectories.metadata.environment_id, self.environment_id
        if found != needed:
            raise UserError(f"{name} comes from {found}, the run's weights were trained for {needed}")
        sizes = (self.observation_dim, self.action_dim)
        if (trajectories.observation_dim, trajectories.action_dim) != sizes:
            raise UserError(f"{name}: observation and action sizes differ from {sizes}, which the run's weights have")
        if self._fractions():
            trajectories = data_parts(trajectories, self.config).transitions
        complete = trajectories.complete_episodes()
        if complete.num_episodes < trajectories.num_episodes:
            _LOGGER.warning(
                "%s: the replay takes the %d of %d episodes that have all their actions and rewards",
                name,
                complete.num_episodes,
                trajectories.num_episodes,
            )
        return complete

    def _fractions(self) -> dict[str, float]:
        """What decides which part of the data set the run knows; empty where it is the whole."""
        data = self.config.data
        if min(data.episodes_fraction, data.labelled_fraction) == 1.0:
            return {}
        return {
            "validation": data.validation_fraction,
            "episodes": data.episodes_fraction,
            "labelled": data.labelled_fraction,
            "seed": split_seed(self.config),
        }

    def _share(self, capacity: int, device: torch.device | str) -> ReplayRows:
        check_mapping_possible()
        path = shared_folder() / f"{self._digest()}.rows"
        rows = self._map(path, capacity, device)
        if rows is None:
            with making(path.parent):
                rows = self._map(path, capacity, device)  # whoever made a file meanwhile may have made this one
                if rows is None:
                    filled = self.fill(self.load(), 0)
                    make_file(path, lambda fresh: write_rows(fresh, filled))
                    del filled
                    rows = self._map(path, capacity, device)
        if rows is None:
            raise UserError(f"{path}: written, but does not read back; check the disk, or set data.share_memory false")
        return rows

    def _map(self, path: Path, capacity: int, device: torch.device | str) -> ReplayRows | None:
        """The rows in the file, which is held as long as they are; None where it is missing or damaged."""
        descriptor = open_file(path)
        if descriptor is None:
            return None
        sizes = (self.observation_dim, self.action_dim, self.row_format.segment_length)
        try:
            rows = map_rows(descriptor, *sizes, capacity, device)
        except DamagedFileError:
            os.close(descriptor)
            return None
        weakref.finalize(rows, os.close, descriptor)
        return rows

    def _digest(self) -> str:
        data = self.config.data
        depends_on = {
            "versions": [FORMAT_VERSION, __version__, np.__version__, gymnasium.__version__],
            "dataset": identity(data.dataset, data.folder),
            "environment": [data.environment, self.environment_id, self.observation_dim, self.action_dim],
            "rows": {name: np.asarray(value).tolist() for name, value in vars(self.row_format).items()},
            "episodes": self.config.online.offline_episodes,
            "fractions": self._fractions(),
        }
        return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
