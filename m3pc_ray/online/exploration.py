"""What a rollout worker must know, without loading a model: the task, and how the planner explores."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from m3pc_ray.config import PlannerConfig, RunConfig
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.online.collector import Collector


@dataclass(frozen=True)
class Task:
    """The environment a run is about."""

    environment_id: str
    time_limit: int
    observation_dim: int
    action_dim: int

    @classmethod
    def from_checkpoint(cls, state: dict[str, Any]) -> Task:
        """The task a checkpoint's models were made for."""
        models = state["models"]
        return cls(
            environment_id=models["metadata"]["environment_id"],
            time_limit=models["time_limit"],
            observation_dim=models["observation_dim"],
            action_dim=models["action_dim"],
        )


def exploring_planner(config: RunConfig) -> PlannerConfig:
    """Planner settings while exploring: the online guide, N and noise, asking for the best return of the data."""
    online = config.online
    return replace(
        config.planner,
        guide=online.guide,
        num_candidates=online.num_candidates,
        action_noise=online.action_noise,
        return_prompt="best",
    )


def make_collector(config: RunConfig, task: Task, worker: int, incarnation: int) -> Collector:
    """A worker's collector with environments of its own."""
    return Collector(
        worker,
        incarnation,
        EnvironmentGroup(task.environment_id, config.online.environments_per_worker, time_limit=task.time_limit),
        context_length=config.planner.context_length,
        run_seed=config.seed,
        fragment_steps=config.online.fragment_steps,
        planner=json.dumps(asdict(exploring_planner(config)), sort_keys=True),
    )


def lease_size(config: RunConfig) -> int:
    """Tickets of one lease: a fragment of every environment, but no more than keeps the limiter's tolerance.

    Every worker may hold two leases at once; together they take half of the tolerance. A lease that gives every
    environment a step gives all of them the same number, so that no planning request is for a few left over.
    """
    online = config.online
    environments = online.environments_per_worker
    most = online.fragment_steps * environments
    size = max(1, min(most, online.rate_tolerance_steps // (4 * online.rollout_workers)))
    return size - size % environments if size >= environments else size
