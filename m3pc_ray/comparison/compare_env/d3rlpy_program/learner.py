"""A d3rlpy algorithm in training: updates, checkpoints, counters."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from d3rlpy.torch_utility import TorchMiniBatch, TorchTrajectoryMiniBatch

from .transitions import Replay

CHECKPOINT_SECONDS = 60.0


class TrainingError(Exception):
    """It cannot go on; says why."""


class Learner:
    """The algorithm and its counters.

    Args:
        algorithm: with its networks.
        rng: of batches and exploration; kept in checkpoints with torch's.
        path: of the checkpoint.
    """

    def __init__(self, algorithm: Any, rng: np.random.Generator, path: Path) -> None:
        self.algorithm, self.rng, self.path = algorithm, rng, path
        self.updates = 0
        self.environment_steps = 0
        self.episodes = 0
        self._saved_at = time.monotonic()

    def update(self, batch: TorchMiniBatch | TorchTrajectoryMiniBatch) -> None:
        """One gradient update of all networks, d3rlpy's own. Raises TrainingError where a loss is not finite."""
        losses = self.algorithm.impl.update(batch, self.updates)
        self.updates += 1
        wrong = [name for name, value in losses.items() if not math.isfinite(value)]
        if wrong:
            raise TrainingError(f"update {self.updates}: {', '.join(wrong)} is not finite, training diverged")

    @property
    def save_is_due(self) -> bool:
        return time.monotonic() - self._saved_at > CHECKPOINT_SECONDS

    def save(self, replay: Replay | None = None) -> None:
        """Writes everything; the file is complete or as it was."""
        networks = io.BytesIO()
        self.algorithm.impl.save_model(networks)
        counters = ("updates", "environment_steps", "episodes")
        state = {name: getattr(self, name) for name in counters} | {"rng": self.rng.bit_generator.state}
        values = {
            "networks": torch.frombuffer(bytearray(networks.getvalue()), dtype=torch.uint8),
            "torch_rng": torch.get_rng_state(),
            "state": json.dumps(state),
            "collected": {} if replay is None else replay.collected(),
        }
        fresh = self.path.with_suffix(".part")
        with fresh.open("wb") as file:
            torch.save(values, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.path)
        self._saved_at = time.monotonic()

    def restore(self, replay: Replay | None = None) -> None:
        """Goes on where the checkpoint was written, if there is one. Raises TrainingError for a damaged one."""
        if not self.path.is_file():
            return
        try:
            values = torch.load(self.path, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise TrainingError(f"{self.path}: damaged; remove it to train from the start") from error
        self.algorithm.impl.load_model(io.BytesIO(values["networks"].numpy().tobytes()))
        torch.set_rng_state(values["torch_rng"])
        state = json.loads(values["state"])
        self.rng.bit_generator.state = state.pop("rng")
        for name, value in state.items():
            setattr(self, name, value)
        if replay is not None and values["collected"]:
            replay.append({name: tensor.numpy() for name, tensor in values["collected"].items()})
