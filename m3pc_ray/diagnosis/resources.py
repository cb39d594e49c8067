"""Whether a configuration of online finetuning fits a machine or a cluster, with the arithmetic."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from m3pc_ray.config import RunConfig
from m3pc_ray.diagnosis import memory
from m3pc_ray.diagnosis.rows import Row
from m3pc_ray.online.resources import CORES_GIVEN, Resources, divide_resources
from m3pc_ray.trajectories.episodes import Trajectories

FEW_CORES = 0.25
"""Below this share of the cores wished, roles wait for each other more than they work."""
MEMORY_WARNING = 0.8
"""Share of the memory from which on the estimate's uncertainty matters."""
ROLES = ("rollout_worker", "planner", "learner", "replay", "evaluator")
"""As `Resources` names them."""
COPIES_IN_STORE = 3
"""Of the weights in the object store at once: being read, newly published, for an evaluation."""

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Machine:
    """What there is to run on; tuples hold one entry a node."""

    cores: tuple[float, ...]
    gpus: tuple[float, ...]
    memory_bytes: tuple[float, ...]
    object_store_bytes: tuple[float, ...]
    name: str
    is_local: bool
    """It is the machine this process runs on, and nothing else."""


def this_machine(object_store_bytes: float) -> Machine:
    """Cores this process may use, GPUs torch sees, memory available now (within a container's limit)."""
    import torch

    available = _available_memory()
    gpus = float(torch.cuda.device_count()) if torch.cuda.is_available() else 0.0
    cores = float(len(os.sched_getaffinity(0)))
    return Machine((cores,), (gpus,), (available,), (object_store_bytes,), "this machine", True)


def check_resources(config: RunConfig, trajectories: Trajectories, machine: Machine) -> list[Row]:
    """Rows on cores, GPU, memory and object store."""
    online = config.online
    parameters = memory.count_parameters(config.model, trajectories.observation_dim, trajectories.action_dim)
    resources = divide_resources(
        cores=sum(machine.cores),
        largest_node=max(machine.cores),
        gpus=int(sum(machine.gpus)) if config.device != "cpu" else 0,
        online=online,
        gpu_nodes=[cores for cores, gpus in zip(machine.cores, machine.gpus, strict=True) if gpus > 0],
    )
    return [
        _cores(resources, online.rollout_workers, machine),
        _memory(config, trajectories, machine, parameters, resources),
        _object_store(config, trajectories, machine, parameters),
    ]


def place(resources: Resources, rollout_workers: int, machine: Machine) -> list[list[str]] | None:
    """Roles of every node, the largest placed first where it fits first; None where one fits nowhere.

    As Ray does, what needs no GPU goes to nodes without one as long as there is room.
    """
    counts = {"rollout_worker": rollout_workers, "planner": resources.planners}
    shares = {role: getattr(resources, role) for role in ROLES}
    requests = [
        (shares[role].get("num_gpus", 0.0), shares[role]["num_cpus"], role)
        for role in ROLES
        for _ in range(counts.get(role, 1))
    ]
    free, free_gpus = list(machine.cores), list(machine.gpus)
    placed: list[list[str]] = [[] for _ in free]
    without_gpus_first = sorted(range(len(free)), key=lambda node: machine.gpus[node] > 0)
    for gpus, cpus, role in sorted(requests, reverse=True):
        for node in without_gpus_first:
            if cpus <= free[node] + 1e-9 and gpus <= free_gpus[node] + 1e-9:
                free[node] -= cpus
                free_gpus[node] -= gpus
                placed[node].append(role)
                break
        else:
            return None
    return placed


def _cores(resources: Resources, rollout_workers: int, machine: Machine) -> Row:
    shares = {role: getattr(resources, role)["num_cpus"] for role in ("learner", "replay", "evaluator")}
    cores, wished = sum(machine.cores), resources.cores_wished
    worker, planner = resources.rollout_worker["num_cpus"], resources.planner["num_cpus"]
    asked = rollout_workers * worker + resources.planners * planner + sum(shares.values())
    many = [f"{rollout_workers} x {worker:g}", f"{resources.planners} x {planner:g}"]
    sum_of = " + ".join([*many, *(f"{share:g}" for share in shares.values())])
    found = (
        f"rollout workers + planners + {' + '.join(shares)} = {sum_of} = {asked:.2f} of {cores:g} cores "
        f"({machine.name}); wished {wished:g}"
    )
    gpu = resources.planner.get("num_gpus")
    if gpu:
        used = ", ".join(
            f"{role} {getattr(resources, role)['num_gpus']:g}" for role in ("planner", "learner", "evaluator")
        )
        found += f"; {sum(machine.gpus):g} GPUs: shares {used}"
    if place(resources, rollout_workers, machine) is None:
        largest = max([("rollout workers", worker), ("planner", planner), *shares.items()], key=lambda item: item[1])
        advice = (
            f"{largest[0]} asks for {largest[1]:g} cores, the largest node has {max(machine.cores):g}: lower "
            "online.threads or --rollout-workers"
        )
        return Row("cores", "failure", found + "; some role fits on no node and would wait for ever", advice)
    if CORES_GIVEN * cores / wished < FEW_CORES:
        return Row("cores", "warning", found, "fewer --rollout-workers, with more --online.environments_per_worker")
    return Row("cores", "ok", found)


def _memory(
    config: RunConfig, trajectories: Trajectories, machine: Machine, parameters: int, resources: Resources
) -> Row:
    workers = config.online.rollout_workers
    items = {item.role: item for item in memory.estimate(config, trajectories, parameters)}
    everyone = [*items, *["rollout_worker"] * (workers - 1), *["planner"] * (resources.planners - 1)]
    placed = place(resources, workers, machine) or [everyone]
    base = memory.SHARED_MEGABYTES + memory.RAY_MEGABYTES
    driver = memory.OWN_MEGABYTES["driver"]  # beside the first node's roles, where it usually is
    needed = [
        base + (driver if node == 0 else 0) + sum(items[role].megabytes for role in roles)
        for node, roles in enumerate(placed)
    ]
    available = [size / memory.MEGABYTE for size in machine.memory_bytes]
    shares = [need / have for need, have in zip(needed, available, strict=False)]
    worst = max(range(len(shares)), key=lambda node: shares[node])
    terms = [f"{placed[worst].count('rollout_worker')} x {items['rollout_worker'].megabytes:,.0f} rollout workers"]
    for role in ("planner", "learner", "replay", "evaluator"):
        if role in placed[worst]:
            detail = f" ({items[role].arithmetic})" if items[role].arithmetic else ""
            count = placed[worst].count(role)
            many = f"{count} x " if count > 1 else ""
            terms.append(f"{many}{items[role].megabytes:,.0f} {role}{detail}")
    terms += [f"{driver} driver"] * (worst == 0) + [f"{base} Ray and shared libraries"]
    found = f"{' + '.join(terms)} = {needed[worst]:,.0f} of {available[worst]:,.0f} MB available"
    found += f" on the fullest of {len(placed)} nodes" if len(placed) > 1 else ""
    advice = "lower online.replay_capacity, online.btm_batch_size or --rollout-workers"
    if shares[worst] > 1:
        return Row("memory", "failure", found, advice)
    return Row(
        "memory",
        "warning" if shares[worst] > MEMORY_WARNING else "ok",
        found,
        advice * (shares[worst] > MEMORY_WARNING),
    )


def _object_store(config: RunConfig, trajectories: Trajectories, machine: Machine, parameters: int) -> Row:
    online = config.online
    weights = COPIES_IN_STORE * 4 * parameters
    step = 4 * (trajectories.observation_dim + trajectories.action_dim + 1)
    # A worker holds back at most a fragment an environment, and has two calls under way.
    fragments = 2 * online.rollout_workers * online.environments_per_worker * online.fragment_steps * step
    needed, smallest = (weights + fragments) / memory.MEGABYTE, min(machine.object_store_bytes) / memory.MEGABYTE
    found = (
        f"{COPIES_IN_STORE} x {4 * parameters / memory.MEGABYTE:,.1f} weights + "
        f"{fragments / memory.MEGABYTE:,.1f} fragments = {needed:,.1f} of {smallest:,.0f} MB"
    )
    if needed > smallest:
        return Row(
            "object store", "failure", found, "start Ray with a larger --object-store-memory, or a smaller model.width"
        )
    return Row("object store", "ok", found)


def _available_memory() -> float:
    available = 0.0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = 1024.0 * int(line.split()[1])
    try:
        limit = _CGROUP_LIMIT.read_text().strip()
    except OSError:
        return available
    return min(available, float(limit)) if limit != "max" else available
