"""Ends a role's process on another machine of the cluster, for `m3pc chaos`."""

from __future__ import annotations

import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.cluster import join
from m3pc_ray.errors import UserError
from m3pc_ray.online.watching.processes import end_worker

ANSWER_SECONDS = 60.0
"""Longest wait for the other machine: it may have to start a process for the task first."""


def end_worker_on(address: str, host: str, pid: int) -> None:
    """SIGKILL to a process of Ray on the machine called `host` (as `socket.gethostname` says there).

    A task pinned to that machine does it, so that the role dies as it would by itself: with its process, unannounced.
    The session with the cluster stays open for the next call.

    Raises:
        UserError: the cluster does not answer, or has no such machine.
        ProcessLookupError: there is no such process, or it is not Ray's.
    """
    if not ray.is_initialized():
        join(address)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeManagerHostname"] == host]
    if not nodes:
        raise UserError(f"{host}: no living machine of the Ray cluster {address} has this name")
    task = ray.remote(num_cpus=0, max_retries=0)(end_worker).options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(nodes[0], soft=False)
    )
    try:
        ray.get(task.remote(pid), timeout=ANSWER_SECONDS)
    except RayTaskError as error:
        if isinstance(error.cause, ProcessLookupError):
            raise error.cause from None
        raise
