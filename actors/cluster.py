"""A Ray cluster for a run: the one of RAY_ADDRESS, or a lean local one that is closed afterwards."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
from ray._private import ray_constants, services
from ray.exceptions import RayError

from m3pc_ray.config import OnlineConfig
from m3pc_ray.errors import UserError
from m3pc_ray.online.resources import Resources, divide_resources

OBJECT_STORE_BYTES = 256 * 2**20
"""Of a local cluster: weights and fragments in flight need a small part of it."""
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

    It listens on 127.0.0.1 only, so that no other machine can reach it.

    Raises:
        UserError: it does not come up, as on a machine with far too much to do.
    """
    try:
        with _loopback():
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
        try:
            answer = health_check(address, os.environ)
        except subprocess.TimeoutExpired:
            raise UserError(f"RAY_ADDRESS={address}: no Ray cluster answers there; unset it to run locally") from None
        if "authentication token" in answer.stderr.lower():
            raise UserError(
                f"RAY_ADDRESS={address}: the cluster asks for its token: set RAY_AUTH_MODE=token, and put the token "
                "into ~/.ray/auth_token or RAY_AUTH_TOKEN (docs/operations.md)"
            )
        if answer.returncode != 0:
            said = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
            reason = f" ({said[-1]})" if said else ""
            raise UserError(f"RAY_ADDRESS={address}: no Ray cluster answers there{reason}; unset it to run locally")
    try:
        with _loopback() if _only_on_loopback(address) else nullcontext():
            ray.init(address=address, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise UserError(f"RAY_ADDRESS={address}: cannot join the cluster: {error}") from error


def health_check(address: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Ask in another process whether a Ray cluster answers at `address`: exit code 0, or the reason on stderr.

    variables: environment variables to ask under. Raises subprocess.TimeoutExpired after `ANSWER_SECONDS`.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    environment = dict(variables)
    if _only_on_loopback(address):
        environment[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # what `_loopback` does, in that process
    return subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False, env=environment)


@contextmanager
def _loopback() -> Iterator[None]:
    """Within the block Ray takes 127.0.0.1 for this machine's address, and a cluster started there listens on no other.

    Left alone, Ray replaces 127.0.0.1 by the machine's outward address and listens on every interface. It has no
    public argument for this on Linux; the constant is what it goes by on other systems.
    """
    usual = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = usual


def _only_on_loopback(address: str) -> bool:
    """Whether a local address belongs to a cluster of `start_local`: nobody answers on the machine's outward one."""
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost", "::1", "[::1]"):
        return False
    try:
        outward = services.node_ip_address_from_perspective(None)  # not what a session of this process goes by
        socket.create_connection((outward, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError:
        return True
    return False


def share_resources(online: OnlineConfig, use_gpu: bool) -> Resources:
    """Divide the cores and GPUs of the cluster among the roles, see `divide_resources`."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpu_nodes = [node.get("CPU", 0.0) for node in nodes if node.get("GPU", 0.0) > 0]
    available = ray.cluster_resources()
    cores = available.get("CPU", 1.0)
    largest_node = max((node.get("CPU", 0.0) for node in nodes), default=cores)
    return divide_resources(cores, largest_node, int(available.get("GPU", 0)) if use_gpu else 0, online, gpu_nodes)
