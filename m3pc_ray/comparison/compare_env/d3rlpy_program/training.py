"""One method from its data to its last point, from wherever the checkpoint stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .collecting import Collector
from .learner import Learner
from .messages import Parent, Stopped
from .methods import METHODS
from .policies import write_policy
from .sequences import Sequences
from .transitions import Data, Replay

OFFLINE = 0
"""The point before the first environment step."""


def train(folder: Path, assignment: Mapping[str, Any], parent: Parent) -> None:
    """Writes a policy at every point. Raises Stopped, after a checkpoint, where it is to end."""
    method, points = METHODS[assignment["method"]], assignment["points"]
    algorithm = method.create(assignment)
    torch.manual_seed(assignment["seed"])
    algorithm.create_impl((assignment["observation_dim"],), assignment["action_dim"])
    rng = np.random.default_rng([assignment["seed"], 11])
    learner = Learner(algorithm, rng, folder / "checkpoint.pt")
    discount = getattr(algorithm.config, "gamma", 1.0)
    data = Data(folder / "transitions.parquet", discount, method.reward_scale(assignment), method.standardise)
    replay = None
    source: Replay | Sequences
    if method.sequences:
        source = Sequences(data, algorithm.config.context_size, rng)
    else:
        source = replay = Replay(data.transitions(), points[-1] if points else 0, method.online_share, rng)
    learner.restore(replay)

    def reach(point: int) -> None:
        """Checkpoint and policy; then wait until the point has been dealt with."""
        learner.save(replay)
        write_policy(folder, point, learner, data, assignment)
        parent.point(point)

    total = assignment["updates"]
    while learner.updates < total:
        learner.update(source.batch(algorithm.config.batch_size))
        parent.progress("update", learner.updates, total)
        _pause(learner, replay, parent)
    if learner.environment_steps in (OFFLINE, *points):  # also one during which it was stopped
        reach(learner.environment_steps)
    if not points:
        return
    assert replay is not None
    with Collector(assignment, method, learner, data, replay) as collector:
        while learner.environment_steps < points[-1]:
            collector.step()
            parent.progress("environment step", learner.environment_steps, points[-1])
            if learner.environment_steps in points:
                reach(learner.environment_steps)
            else:
                _pause(learner, replay, parent)


def _pause(learner: Learner, replay: Replay | None, parent: Parent) -> None:
    """Checkpoints when it is time to, and ends where that is wanted."""
    stop = parent.wants_stop
    if stop or learner.save_is_due:
        learner.save(replay)
    if stop:
        raise Stopped
