"""What a trial reserves in the cluster, and whether that can ever fit."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import ray

from actors.placement import Bundle, RoleBundles
from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.online.resources import CORES_GIVEN, divide_resources
from tune.definition import Sweep

MOST_ATTEMPTS = 20_000
"""Placements tried before a trial is taken to fit."""
_TOLERANCE = 1e-9
Nodes = list[Bundle]
"""CPU and GPU of every node."""


def cluster_nodes() -> Nodes:
    """CPU and GPU of every node that is alive. Ray must be connected."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [{name: float(resources.get(name, 0.0)) for name in ("CPU", "GPU")} for resources in alive]


def role_bundles(sweep: Sweep, config: RunConfig, nodes: Nodes) -> RoleBundles:
    """Bundles of the roles of one online run: its share of the cluster divided among them.

    Without `trial_cpus` that is what the roles wish, or all there is.

    Raises:
        UserError: `online.worker_cpus` is more than `trial_cpus` has room for.
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
    bundles = RoleBundles(shares, config.online.rollout_workers, share)
    total = sum(bundle["CPU"] for bundle in bundles.bundles())
    if sweep.trial_cpus and total > sweep.trial_cpus + _TOLERANCE:  # online.worker_cpus is not scaled down
        raise UserError(f"a trial reserves {_sum(bundles.bundles())}, more than trial_cpus = {sweep.trial_cpus:g}")
    return bundles


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
    if can_fit(bundles, nodes):
        return
    raise UserError(
        f"a trial reserves {_sum(bundles)}; the cluster has {_all(nodes)}, which never has room for all of them, each "
        "on one node: lower trial_cpus, trial_gpus, online.rollout_workers, online.worker_cpus or online.planners, or "
        "add nodes"
    )


def can_fit(bundles: Sequence[Bundle], nodes: Nodes) -> bool:
    """Whether an empty cluster may have room for the bundles; False only where it is certain that it has not.

    Tries the largest first, on every kind of node with room, up to `MOST_ATTEMPTS` placements.
    """
    total = {name: sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU")}
    if any(sum(bundle.get(name, 0.0) for bundle in bundles) > total[name] + _TOLERANCE for name in total):
        return False
    ordered = sorted(bundles, key=lambda bundle: (bundle.get("GPU", 0.0), bundle.get("CPU", 0.0)), reverse=True)
    attempts = itertools.count()

    def place(number: int, free: list[tuple[float, float]]) -> bool:
        if number == len(ordered) or next(attempts) > MOST_ATTEMPTS:
            return True
        cpu, gpu = ordered[number].get("CPU", 0.0), ordered[number].get("GPU", 0.0)
        for node in dict.fromkeys(free):  # nodes with equal room are one case
            if cpu <= node[0] + _TOLERANCE and gpu <= node[1] + _TOLERANCE:
                rest = list(free)
                rest[rest.index(node)] = (node[0] - cpu, node[1] - gpu)
                if place(number + 1, rest):
                    return True
        return False

    return place(0, [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes])


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
