"""CPU seconds per 1,000 updates: `python -m d3rlpy_program.costs FOLDER STRETCHES UPDATES` (benchmarks/d3rlpy_cost.py).

Prints JSON: lists over stretches of `update` (batch and networks), `batch` (ours) and `library_batch` (the same rows or
windows from d3rlpy's own replay buffer).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from d3rlpy.dataset import Episode, create_infinite_replay_buffer
from d3rlpy.torch_utility import TorchMiniBatch, TorchTrajectoryMiniBatch

from .learner import Learner
from .methods import METHODS
from .sequences import Sequences
from .transitions import DEVICE, Data, Replay


def main() -> None:
    """See the module."""
    folder, stretches, updates = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    assignment = json.loads((folder / "assignment.json").read_text())
    method = METHODS[assignment["method"]]
    algorithm = method.create(assignment)
    algorithm.create_impl((assignment["observation_dim"],), assignment["action_dim"])
    rng = np.random.default_rng(0)
    discount = getattr(algorithm.config, "gamma", 1.0)
    data = Data(folder / "transitions.parquet", discount, method.reward_scale(assignment), method.standardise)
    source: Any
    if method.sequences:
        source = Sequences(data, algorithm.config.context_size, rng)
    else:
        source = Replay(data.transitions(), 0, method.online_share, rng)
    learner, count = Learner(algorithm, rng, folder / "unused"), algorithm.config.batch_size
    measured = {
        "update": _per_thousand(lambda: learner.update(source.batch(count)), stretches, updates),
        "batch": _per_thousand(lambda: source.batch(count), stretches, 20),
        "library_batch": _per_thousand(_library(data, algorithm, count), stretches, 20),
    }
    print(json.dumps(measured))


def _library(data: Data, algorithm: Any, count: int) -> Callable[[], Any]:
    """A batch as d3rlpy's `fit` draws it."""
    episodes = [
        Episode(data.observations[a:b], data.actions[a:b], data.rewards[a:b, None], bool(data.terminals[b - 1]))
        for a, b in zip(data.starts[:-1], data.starts[1:], strict=True)
    ]
    buffer = create_infinite_replay_buffer(episodes=episodes)
    if hasattr(algorithm.config, "context_size"):
        return lambda: TorchTrajectoryMiniBatch.from_batch(
            buffer.sample_trajectory_batch(count, length=algorithm.config.context_size), DEVICE
        )
    returns = bool(algorithm.need_returns_to_go)
    return lambda: TorchMiniBatch.from_batch(buffer.sample_transition_batch(count), data.discount, returns, DEVICE)


def _per_thousand(work: Callable[[], Any], stretches: int, times: int) -> list[float]:
    """CPU seconds per 1,000 of every stretch but the first."""
    seconds = []
    for _ in range(stretches):
        started = time.process_time()
        for _ in range(times):
            work()
        seconds.append((time.process_time() - started) * 1_000 / times)
    return seconds[1:]


if __name__ == "__main__":
    main()
