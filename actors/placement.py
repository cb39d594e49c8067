"""The roles of a run as bundles of one placement group, for a run that shares a cluster with others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from m3pc_ray.online.resources import CORES_GIVEN, Resources

MOST_DRIVER_CPUS = 1.0
Bundle = dict[str, float]
"""Resources that are reserved together on one node, as Ray names them: CPU, GPU."""


@dataclass(frozen=True)
class RoleBundles:
    """One bundle for the driver of the run, the first, and one for every role.

    Every role is bound to its own bundle: left to itself, Ray may put a small role into the bundle of a large one,
    which then waits for ever.
    """

    shares: Resources
    rollout_workers: int
    cores: float
    """Of all bundles together, at most."""

    @property
    def _roles(self) -> dict[str, dict[str, float]]:
        """What every role asks for, by its name in the crew, in the order of the bundles."""
        shares = self.shares
        planners = {f"planner-{number}": shares.planner for number in range(shares.planners)}
        workers = {f"rollout_worker-{number}": shares.rollout_worker for number in range(self.rollout_workers)}
        return {
            "replay": shares.replay,
            **planners,
            "learner": shares.learner,
            "evaluator": shares.evaluator,
            **workers,
        }

    def bundles(self) -> list[Bundle]:
        """All bundles, the driver's first."""
        driver = {"CPU": min(MOST_DRIVER_CPUS, (1 - CORES_GIVEN) * self.cores)}
        return [driver, *(_bundle(share) for share in self._roles.values())]

    def options(self, role: str) -> dict[str, Any]:
        """What binds a role to its bundle in the placement group of the process that makes it."""
        index = 1 + list(self._roles).index(role)
        group = get_current_placement_group()
        return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)}


def _bundle(share: dict[str, float]) -> Bundle:
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    return {names[name]: amount for name, amount in share.items() if amount > 0}
