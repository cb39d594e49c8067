"""TD3+BC on raw observations, standardised as its paper does; the learner is `representations.td3`."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from m3pc_ray.comparison.learner_file import load_learner, save_learner
from m3pc_ray.comparison.method import OFFLINE, Assignment, Record, Report
from m3pc_ray.errors import UserError
from m3pc_ray.representations.features import Features
from m3pc_ray.representations.td3 import TD3BC, TD3Config
from m3pc_ray.training.columns import fill_columns
from m3pc_ray.training.data import transition_arrays
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.state import pack_generator, unpack_generator

LOOK_UPDATES = 50
"""Updates between two looks for Ctrl-C and at the clock."""
CHECKPOINT_SECONDS = 60.0
STANDARDISE_EPSILON = 1e-3
"""Added to the standard deviation of every observation (the paper's)."""


def train(assignment: Assignment, record: Record, report: Report) -> None:
    """See `comparison.method.Train`. Raises UserError where training diverges."""
    trajectories, total = assignment.trajectories, assignment.budget["updates"]
    low, high = (np.asarray(getattr(trajectories.metadata, f"action_{side}"), np.float32) for side in ("low", "high"))
    arrays, keep = transition_arrays(trajectories, low, high)
    mean = arrays["observations"].mean(0, dtype=np.float64).astype(np.float32)
    scale = arrays["observations"].std(0, dtype=np.float64).astype(np.float32) + STANDARDISE_EPSILON
    for name in ("observations", "next_observations"):
        arrays[name] = (arrays[name] - mean) / scale
    columns = fill_columns({name: np.asarray(values[keep], np.float32) for name, values in arrays.items()}, "cpu")
    config = TD3Config()
    sizes = trajectories.observation_dim, trajectories.action_dim
    learner = TD3BC(Features(*sizes), sizes[1], config, assignment.seed)
    rng = np.random.default_rng([assignment.seed, 11])
    checkpoint = assignment.folder / "td3.safetensors"
    if checkpoint.is_file():
        rng = _restore(learner, checkpoint)
    saved = time.monotonic()
    with StopRequest() as stop:
        while learner.updates < total:
            for _ in range(min(LOOK_UPDATES, total - learner.updates)):
                at = torch.as_tensor(rng.integers(len(columns), size=config.batch_size))
                metrics = learner.update(columns.take(at))
            if not all(np.isfinite(float(value)) for value in metrics.values()):
                raise UserError(f"{assignment.dataset}, td3+bc: training diverged before update {learner.updates}")
            report("update", learner.updates, total)
            done = learner.updates == total or stop.requested
            if done or time.monotonic() - saved > CHECKPOINT_SECONDS:
                _save(learner, rng, checkpoint)
                saved = time.monotonic()
            stop.check()

    def policy(observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        actions: npt.NDArray[np.float32] = learner.act(torch.as_tensor((observations - mean) / scale)).numpy()
        return actions

    record(OFFLINE, learner.updates, policy)


def _save(learner: TD3BC, rng: np.random.Generator, path: Path) -> None:
    tensors, state = learner.pack()
    save_learner(path, tensors, {**state, "batches": pack_generator(rng)})


def _restore(learner: TD3BC, path: Path) -> np.random.Generator:
    tensors, state = load_learner(path)
    learner.restore(tensors, state)
    return unpack_generator(state["batches"])
