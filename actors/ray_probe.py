"""Tries Ray in a process of its own: `python -m actors.ray_probe` prints one line of JSON.

Ray ends the process that joins a cluster of another version, and leaves threads behind; `actors.diagnosis` starts this
module instead of doing it itself. With RAY_ADDRESS it joins that cluster, without it starts a local one and closes it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from typing import Any

TASK_SECONDS = 60.0
"""Longest time for a task and an actor on a cluster that is up."""


class Adder:
    """The actor that is tried."""

    def __init__(self, start: int) -> None:
        self._start = start

    def add(self, number: int) -> int:
        return self._start + number


def double(number: int) -> int:
    """The task that is tried."""
    return 2 * number


def probe() -> dict[str, Any]:
    """What was found out; raises what Ray raises."""
    import ray
    from ray.exceptions import GetTimeoutError

    from actors.cluster import ray_session, start_local
    from m3pc_ray.diagnosis.sockets import descendants, listening
    from m3pc_ray.errors import UserError

    address = os.environ.get("RAY_ADDRESS", "")
    joined = bool(address) and address != "local"
    folder = "" if joined else tempfile.mkdtemp(prefix="m3pc-", dir="/tmp")  # socket paths have room for 107 characters
    try:
        began = time.monotonic()
        if not joined:
            start_local(_temp_dir=folder)
        with ray_session():
            started = time.monotonic()
            required = _token_required(ray.get_runtime_context().gcs_address) if joined else True
            check_modes_agree(required, os.environ.get("RAY_AUTH_MODE", ""))
            try:
                task = ray.remote(num_cpus=0.1)(double).remote(21)
                actor = ray.remote(num_cpus=0.1)(Adder).remote(40)
                answers = ray.get([task, actor.add.remote(2)], timeout=TASK_SECONDS)
            except GetTimeoutError:
                raise UserError(
                    f"a task and an actor of 0.1 cores had no answer in {TASK_SECONDS:.0f} s; free on the cluster: "
                    f"{ray.available_resources()}"
                ) from None
            ray.kill(actor)
            if answers != [42, 42]:
                raise UserError(f"a task and an actor answered {answers} instead of [42, 42]")
            answered = time.monotonic()
            nodes = [
                {
                    "address": node["NodeManagerAddress"],
                    "cores": node["Resources"].get("CPU", 0.0),
                    "gpus": node["Resources"].get("GPU", 0.0),
                    "memory": node["Resources"].get("memory", 0.0),
                    "object_store": node["Resources"].get("object_store_memory", 0.0),
                }
                for node in ray.nodes()
                if node["Alive"]
            ]
            sockets = [] if joined else listening(descendants())
            return {
                "version": ray.__version__,
                "address": address if joined else "",
                "nodes": nodes,
                "start_seconds": started - began,
                "answer_seconds": answered - started,
                "outside": sorted(
                    {f"{socket.address} ({socket.process})" for socket in sockets if not socket.is_loopback}
                ),
                "token_required": required,
            }
    finally:
        if ray.is_initialized():
            ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def check_modes_agree(token_required: bool, mode: str) -> None:
    """Raises UserError where this process asks for tokens and the cluster sends none.

    The cluster's calls to the driver are then turned away, and its actors end, as if the driver had gone.
    """
    from m3pc_ray.errors import UserError

    if mode.lower() == "token" and not token_required:
        raise UserError(
            "RAY_AUTH_MODE=token is set here, but the cluster has token authentication off, so that its actors would "
            "end at once: unset it here, or turn it on there"
        )


def _token_required(address: str) -> bool:
    """Whether the cluster turns away who brings no token."""
    from actors.cluster import health_check

    stranger = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH_")}
    answer = health_check(address, {**stranger, "RAY_AUTH_MODE": "disabled"})
    return "authentication token" in answer.stderr.lower()


def main() -> int:
    """Prints what was found, or `{"error": ...}`; the exit code is 0 in both cases."""
    try:
        found = probe()
    except Exception as error:
        kind = type(error).__name__
        text = " ".join(str(error).split())
        found = {"error": text if kind == "UserError" else f"{kind}: {text}"}
    print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
