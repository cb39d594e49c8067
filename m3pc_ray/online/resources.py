"""How the cores and GPUs of a machine or cluster are divided among the roles: arithmetic only, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from m3pc_ray.config import OnlineConfig

MOST_LEARNER_THREADS = 8
"""By default; products of a small model gain nothing from more."""
CORES_WISHED = {"rollout_worker": 1.0, "planner": 1.0, "replay": 0.25, "evaluator": 1.0}
"""Of one actor of a role; the learner wishes its threads."""
GPU_SHARES = {"planner": 0.3, "learner": 0.4, "evaluator": 0.2}
"""Of the only GPU, which the three roles share."""
SEVERAL_GPU_SHARES = {"learner": 0.6, "evaluator": 0.3}
"""Of one of several GPUs; the others are the planners'."""
CORES_GIVEN = 0.95
"""Of all cores at most: other actors of a running cluster need some."""


@dataclass(frozen=True)
class Resources:
    """What each role asks Ray for, as `options(...)`."""

    rollout_worker: dict[str, float]
    planner: dict[str, float]
    learner: dict[str, float]
    replay: dict[str, float]
    evaluator: dict[str, float]
    planners: int
    """Planner replicas."""
    threads: int
    """CPU threads of the learner."""
    cores_wished: float
    """Cores of all roles together where there are enough: one a role, more for the learner, less for the replay."""


def default_learner_threads(largest_node: float) -> int:
    """Half the cores of the largest node, at least 1 and at most `MOST_LEARNER_THREADS`."""
    return max(1, min(MOST_LEARNER_THREADS, int(largest_node) // 2))


def divide_resources(
    cores: float, largest_node: float, gpus: int, online: OnlineConfig, gpu_nodes: Sequence[float] = ()
) -> Resources:
    """Divide a cluster: a core a role and more for the learner where there are enough, fractions of them elsewhere.

    One GPU is shared by planner, learner and evaluator. Of several, learner and evaluator share one and the planners
    have the others. These roles can only be where a GPU is: they ask for no more cores than the nodes with GPUs have.

    Args:
        cores: of all nodes together.
        largest_node: cores of the node that has most of them.
        gpus: GPUs to use.
        online: `rollout_workers`, `worker_cpus`, `planners` and `threads` count here.
        gpu_nodes: cores of every node that has a GPU; empty: of every node.
    """
    nodes_with_gpus = list(gpu_nodes) if gpus else []
    threads = online.threads or default_learner_threads(min(nodes_with_gpus, default=largest_node))
    planners = online.planners or max(1, gpus - 1)
    wishes = {**CORES_WISHED, "learner": float(threads)}
    if online.worker_cpus:
        wishes["rollout_worker"] = online.worker_cpus
    counts = {"rollout_worker": online.rollout_workers, "planner": planners}
    wished = sum(wish * counts.get(role, 1) for role, wish in wishes.items())
    scale = min(1.0, CORES_GIVEN * cores / wished)
    gpu_scale = scale
    if nodes_with_gpus:
        beside_each_other = wishes["learner"] + wishes["evaluator"]  # they share a GPU
        gpu_scale = min(
            scale,
            CORES_GIVEN * min(nodes_with_gpus) / beside_each_other,
            CORES_GIVEN * sum(nodes_with_gpus) / (beside_each_other + planners * wishes["planner"]),
        )
    shares: dict[str, dict[str, float]] = {
        role: {"num_cpus": _granted(wish * (gpu_scale if role in GPU_SHARES else scale))}
        for role, wish in wishes.items()
    }
    if online.worker_cpus:
        shares["rollout_worker"]["num_cpus"] = online.worker_cpus
    for role, share in _gpu_shares(gpus, planners).items():
        shares[role]["num_gpus"] = share
    return Resources(**shares, planners=planners, threads=threads, cores_wished=wished)


def _granted(cores: float) -> float:
    """Rounded down to what Ray takes: above one, whole cores only."""
    return float(int(cores)) if cores > 1 else int(cores * 1000) / 1000


def _gpu_shares(gpus: int, planners: int) -> dict[str, float]:
    """Share of a GPU by role, of one actor."""
    if gpus == 0:
        return {}
    if gpus == 1:
        return {**GPU_SHARES, "planner": int(1000 * GPU_SHARES["planner"] / planners) / 1000}
    return {**SEVERAL_GPU_SHARES, "planner": min(1.0, int(1000 * (gpus - 1) / planners) / 1000)}
