"""Whether Ray works here: the part of `m3pc doctor` that needs it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from m3pc_ray.diagnosis.resources import Machine
from m3pc_ray.diagnosis.rows import Row

PROBE_SECONDS = 180.0
"""Longest time for all of it: a local cluster starts in about 5 s on an idle machine and gives up after 30 s."""


def check_ray(
    environment: dict[str, str] | None = None, seconds: float = PROBE_SECONDS
) -> tuple[list[Row], Machine | None]:
    """Rows on the cluster and on who can reach it, and what the cluster offers; None where it does not work.

    environment: environment variables, by default this process's; with RAY_ADDRESS that cluster is joined, without it a
    local one is started and closed.
    """
    variables = dict(os.environ if environment is None else environment)
    address = variables.get("RAY_ADDRESS", "")
    local = address in ("", "local")
    if local and "RAY_AUTH_TOKEN_PATH" not in variables:
        # Else Ray would write one into the home folder where there is none; a check leaves nothing behind.
        variables.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    found = _probe(variables, seconds)
    if "error" in found:
        advice = (
            "free the machine or use --serial"
            if local
            else "see the cluster's state with `ray status`, or unset RAY_ADDRESS"
        )
        return [Row("ray", "failure", found["error"], advice)], None
    nodes = found["nodes"]
    cores, gpus = (sum(node[key] for node in nodes) for key in ("cores", "gpus"))
    place = "local cluster" if local else f"cluster at {address}, {len(nodes)} nodes"
    rows = [
        Row(
            "ray",
            "ok",
            f"Ray {found['version']}, {place}: {cores:g} cores, {gpus:g} GPUs; "
            f"{'started' if local else 'joined'} in {found['start_seconds']:.1f} s, a task and an actor answered in "
            f"{found['answer_seconds']:.1f} s",
        ),
        _reach(found, local, variables.get("RAY_AUTH_MODE", "")),
    ]
    return rows, Machine(
        cores=tuple(node["cores"] for node in nodes),
        gpus=tuple(node["gpus"] for node in nodes),
        memory_bytes=tuple(node["memory"] for node in nodes),
        object_store_bytes=tuple(node["object_store"] for node in nodes),
        name=place,
        is_local=local,
    )


def _reach(found: dict[str, Any], local: bool, mode: str) -> Row:
    turn_on = "generate a token and set RAY_AUTH_MODE=token on every node and here (docs/operations.md)"
    if local:
        if found["outside"]:
            seen = f"the local cluster listens on {', '.join(found['outside'])}, not on loopback only"
            safe = mode != "disabled"
            return Row("ray network", "warning", seen, "whoever has no token is turned away" if safe else turn_on)
        return Row("ray network", "ok", "the local cluster listens on loopback only")
    if found["token_required"]:
        return Row("ray network", "ok", "token authentication is on: the cluster turns away who brings no token")
    seen = "token authentication is off: whoever reaches the cluster can run code on it"
    return Row("ray network", "warning", seen, turn_on)


def _probe(variables: dict[str, str], seconds: float) -> dict[str, Any]:
    """What `actors.ray_probe` says, or {"error": why it says nothing}."""
    folder = str(Path(__file__).resolve().parents[1])
    variables = {**variables, "PYTHONPATH": os.pathsep.join(filter(None, [folder, variables.get("PYTHONPATH")]))}
    process = subprocess.Popen(
        [sys.executable, "-m", "actors.ray_probe"],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer in {seconds:.0f} s"}
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: what it started goes with it
            process.communicate()
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    said = [line.strip() for line in errors.splitlines() if line.strip()]
    return {"error": said[-1][:200] if said else f"Ray ended the process with exit code {process.returncode}"}
