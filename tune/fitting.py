"""What a trial reserves in the cluster, and whether that can ever fit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import ray

from actors.placement import Bundle, RoleBundles
from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.online.resources import CORES_GIVEN, divide_resources
from tune.definition import Sweep

Nodes = list[Bundle]
"""CPU and GPU of every node."""


def cluster_nodes() -> Nodes:
    """CPU and GPU of every node that is alive. Ray must be connected."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [{name: float(resources.get(name, 0.0)) for name in ("CPU", "GPU")} for resources in alive]


def role_bundles(sweep: Sweep, config: RunConfig, nodes: Nodes) -> RoleBundles:
    """Bundles of the roles of one online run: its share of the cluster divided among them.

    Without `trial_cpus` that is what the roles wish, or all there is.
    """
    cores, largest = sum(node["CPU"] for node in nodes), max(node["CPU"] for node in nodes)
    gpus = sweep.trial_gpus if config.device != "cpu" else 0
    gpu_nodes = [node["CPU"] for node in nodes if node["GPU"] > 0]
    if sweep.trial_cpus:
        share, largest = sweep.trial_cpus, min(sweep.trial_cpus, largest)
    else:
        wished = divide_resources(math.inf, largest, gpus, config.online, gpu_nodes).cores_wished
        share = min(cores, math.ceil(wished / CORES_GIVEN))
    shares = divide_resources(share, largest, gpus, config.online, gpu_nodes)
    return RoleBundles(shares, config.online.rollout_workers, share)


def trial_bundles(sweep: Sweep, config: RunConfig, nodes: Nodes) -> list[Bundle]:
    """What one trial reserves; the first bundle is its own process's.

    Raises:
        UserError: it would not even fit an empty cluster; with the arithmetic.
    """
    if sweep.kind == "evaluate":
        bundles = [{"CPU": sweep.trial_cpus or 1.0, "GPU": float(sweep.trial_gpus)}]
    else:
        bundles = role_bundles(sweep, config, nodes).bundles()
    bundles = [{name: amount for name, amount in bundle.items() if amount > 0} for bundle in bundles]
    check_fit(bundles, nodes)
    return bundles


def check_fit(bundles: Sequence[Bundle], nodes: Nodes) -> None:
    """Raises UserError where not even an empty cluster has room for the bundles, each on one node."""
    free = [dict(node) for node in nodes]
    for bundle in sorted(bundles, key=lambda b: (b.get("GPU", 0.0), b.get("CPU", 0.0)), reverse=True):
        for node in free:
            if all(amount <= node.get(name, 0.0) + 1e-9 for name, amount in bundle.items()):
                for name, amount in bundle.items():
                    node[name] -= amount
                break
        else:
            raise UserError(
                f"a trial reserves {_sum(bundles)}; the cluster has {_all(nodes)}, and {_one(bundle)} finds no room on "
                "any node beside the rest: lower trial_cpus, trial_gpus, online.rollout_workers, online.worker_cpus or "
                "online.planners, or add nodes"
            )


def _sum(bundles: Sequence[Bundle]) -> str:
    """`2 x 0.5 + 1 x 0.25 = 1.25 CPU, 1 x 0.3 = 0.3 GPU`."""
    parts = []
    for name in ("CPU", "GPU"):
        amounts = Counter(round(bundle[name], 3) for bundle in bundles if bundle.get(name))
        if amounts:
            total = sum(amount * count for amount, count in amounts.items())
            terms = " + ".join(f"{count} x {amount:g}" for amount, count in sorted(amounts.items(), reverse=True))
            parts.append(f"{terms} = {total:g} {name}")
    return ", ".join(parts)


def _all(nodes: Nodes) -> str:
    kinds = Counter(_one(node) for node in nodes)
    return ", ".join(f"{count} node{'s' if count > 1 else ''} of {kind}" for kind, count in kinds.items())


def _one(resources: Bundle) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in resources.items() if amount)
