"""What the roles of online finetuning take in memory: measured constants, and arithmetic for what grows with settings.

The constants are the largest that `benchmarks/role_memory.py` saw (Linux, torch 2.13 on a CPU, Ray 2.60,
bundled/hopper, default model, 2 rollout workers with 2 environments each), the learner's less what the formulas below
say of that run. The sum is an estimate: another allocator or build of torch takes more or less.
"""

from __future__ import annotations

from dataclasses import dataclass

from m3pc_ray.config import ModelConfig, RunConfig
from m3pc_ray.trajectories.episodes import Trajectories

MEGABYTE = 10**6

OWN_MEGABYTES = {"rollout_worker": 211, "planner": 386, "learner": 714, "replay": 100, "evaluator": 383, "driver": 296}
"""Private memory of one process of a role."""
SHARED_MEGABYTES = 195
"""Libraries, torch's above all, mapped by all roles of a node and in memory once."""
RAY_MEGABYTES = 500
"""Ray's own processes on a node without dashboard: store, raylet and agent 127, and two idle workers of 190 each."""
UPDATE_BYTES = 44
"""Of an update of the trajectory model, for every segment x token x width x layer: batches of 256 segments took 301,
453 and 827 MB at widths 128, 256 and 512, the weights included."""
PLAN_BYTES = 4.5
"""Of planning, for every decision x candidate x token x width: 14 MB more for 16 decisions of 64 candidates than for 4
at width 128, 114 MB more for 4 of 625 at width 512."""
PARAMETER_BYTES = 16
"""float32 weight, gradient, momentum and published copy in the learner."""


@dataclass(frozen=True)
class MemoryItem:
    """One line of the sum."""

    role: str
    """Role whose process holds it."""
    megabytes: float
    """Of one process."""
    arithmetic: str
    """How it came about."""


def estimate(config: RunConfig, trajectories: Trajectories, parameters: int) -> list[MemoryItem]:
    """What one process of every role needs.

    parameters: number of the trajectory model's, see `count_parameters`.
    """
    online, model = config.online, config.model
    tokens, layers = 4 * model.segment_length, model.encoder_layers + model.decoder_layers
    decisions = online.rollout_workers * online.environments_per_worker
    update = UPDATE_BYTES * online.btm_batch_size * tokens * model.width * layers / MEGABYTE
    plan = PLAN_BYTES * decisions * online.num_candidates * tokens * model.width / MEGABYTE
    mirror = mirror_bytes(config, trajectories) / MEGABYTE
    weights = PARAMETER_BYTES * parameters / MEGABYTE
    learner = OWN_MEGABYTES["learner"] + mirror + weights + update
    return [
        MemoryItem("rollout_worker", OWN_MEGABYTES["rollout_worker"], ""),
        MemoryItem(
            "planner",
            OWN_MEGABYTES["planner"] + plan,
            f"{plan:,.0f} of it {decisions} decisions of {online.num_candidates}",
        ),
        MemoryItem(
            "learner", learner, f"{mirror:,.0f} of it the mirror, {update:,.0f} an update, {weights:,.0f} the weights"
        ),
        MemoryItem("replay", OWN_MEGABYTES["replay"], ""),
        MemoryItem("evaluator", OWN_MEGABYTES["evaluator"], ""),
    ]


def mirror_bytes(config: RunConfig, trajectories: Trajectories) -> int:
    """The learner's replay when it is full, see `online.replay_storage`, and the data set it is filled from."""
    online = config.online
    lengths = trajectories.lengths[trajectories.best_first()[: online.offline_episodes]]
    floats = 2 * trajectories.observation_dim + trajectories.action_dim + 3  # reward, return, termination
    row = 4 * floats + 1  # whether the return is known
    order = 2 * 3 * 8  # three rings of twice the capacity
    capacity = min(online.replay_capacity, online.steps)  # what is never written takes no memory
    return int((lengths.sum() + capacity) * row + capacity * order + trajectories.num_bytes)


def count_parameters(model: ModelConfig, observation_dim: int, action_dim: int) -> int:
    """Number of the trajectory model's parameters; allocates none of them."""
    import numpy as np
    import torch

    from m3pc_ray.model.network import TrajectoryModel
    from m3pc_ray.trajectories.statistics import Statistics

    one, states = np.ones(1, np.float32), np.ones(observation_dim, np.float32)
    with torch.device("meta"):
        network = TrajectoryModel(observation_dim, action_dim, model, Statistics(states, states, one, one, one, one))
    return sum(parameter.numel() for parameter in network.parameters())
