"""A Ray cluster for a run: the one of RAY_ADDRESS, or a lean local one that is closed afterwards."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from m3pc_ray.config import OnlineConfig
from m3pc_ray.errors import UserError

OBJECT_STORE_BYTES = 256 * 2**20
"""Of a local cluster: weights and fragments in flight need a small part of it."""
MOST_LEARNER_THREADS = 8
"""By default; products of a small model gain nothing from more."""
ANSWER_SECONDS = 30.0
"""How long a cluster may take to answer before it counts as absent."""


@contextmanager
def ray_session() -> Iterator[None]:
    """Be connected to Ray: use the session this process has, else join RAY_ADDRESS, else start a local cluster.

    What was started or joined here is left at the end; a session that was there before stays.

    Raises:
        UserError: RAY_ADDRESS names no cluster of this Ray version that answers.
    """
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "")
    if address and address != "local":
        join(address)
    else:
        start_local()
    try:
        yield
    finally:
        ray.shutdown()


def start_local(**settings: Any) -> None:
    """Start a lean local cluster: no dashboard, a small object store, all cores, whatever RAY_ADDRESS says.

    Raises:
        UserError: it does not come up, as on a machine with far too much to do.
    """
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level="error",
            **settings,
        )
    except Exception as error:  # Ray raises plain exceptions here
        if "timed out" not in str(error):
            raise
        raise UserError("Ray did not start here within its 30 s; free the machine, or use --serial") from error


def join(address: str) -> None:
    # Ray ends the process instead of raising where nobody answers, so the address is tried before.
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
        except (OSError, ValueError) as error:
            raise UserError(f"RAY_ADDRESS={address}: nobody answers there ({error}); unset it to run locally") from None
    if not address.startswith("ray://"):  # something listens; another process asks whether it is Ray
        command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise UserError(f"RAY_ADDRESS={address}: no Ray cluster answers there; unset it to run locally") from None
        if answer.returncode != 0:
            said = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
            reason = f" ({said[-1]})" if said else ""
            raise UserError(f"RAY_ADDRESS={address}: no Ray cluster answers there{reason}; unset it to run locally")
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"RAY_ADDRESS={address}: cannot join the cluster: {error}") from error


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


def share_resources(online: OnlineConfig, use_gpu: bool) -> Resources:
    """Divide the cluster: a core a role and more for the learner where there are enough, fractions of them elsewhere.

    One GPU is shared by planner, learner and evaluator. With more of them the learner and the evaluator share one, and
    the planners have the others.
    """
    available = ray.cluster_resources()
    cores, gpus = available.get("CPU", 1.0), int(available.get("GPU", 0)) if use_gpu else 0
    largest_node = max((node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]), default=cores)
    threads = online.threads or max(1, min(MOST_LEARNER_THREADS, int(largest_node) // 2))
    planners = online.planners or max(1, gpus - 1)
    wishes = {
        "rollout_worker": online.worker_cpus or 1.0,
        "planner": 1.0,
        "learner": float(threads),
        "replay": 0.25,
        "evaluator": 1.0,
    }
    counts = {"rollout_worker": online.rollout_workers, "planner": planners}
    total = sum(wish * counts.get(role, 1) for role, wish in wishes.items())
    scale = min(1.0, 0.95 * cores / total)  # not every last bit: other actors of a running cluster need some
    # Above one, Ray takes whole cores only.
    shares: dict[str, dict[str, float]] = {
        role: {"num_cpus": float(int(wish * scale)) if wish * scale > 1 else int(wish * scale * 1000) / 1000}
        for role, wish in wishes.items()
    }
    if online.worker_cpus:
        shares["rollout_worker"]["num_cpus"] = online.worker_cpus
    if gpus == 1:
        fractions = {"planner": 0.3 / planners, "learner": 0.4, "evaluator": 0.2}
    elif gpus:
        fractions = {"planner": min(1.0, (gpus - 1) / planners), "learner": 0.6, "evaluator": 0.3}
    for role, fraction in fractions.items() if gpus else ():
        shares[role]["num_gpus"] = int(fraction * 1000) / 1000
    return Resources(**shares, planners=planners, threads=threads)
