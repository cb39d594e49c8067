"""RUN/live.json: how a running online run stands, for everything that watches it from outside.

The driver replaces the file every two seconds; `m3pc top` shows it and `m3pc chaos` finds its victims in it. It holds
the last moment only: what a run was like before is in metrics.jsonl (docs/metrics.md explains the names of both).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from m3pc_ray.errors import UserError
from m3pc_ray.training.run_folder import RunFolder

RUN_STATES = ("starting", "running", "recovering", "finishing", "interrupted", "finished", "failed")
ENDED_STATES = ("interrupted", "finished", "failed")
ROLE_STATES = ("starting", "running", "restarting")
ROLE_KINDS = ("rollout_worker", "planner", "learner", "replay", "evaluator")


@dataclass(frozen=True)
class RoleStatus:
    """One role: an actor of the run, or its part in the driver's own process with --serial."""

    name: str
    """Its kind, numbered where there are several: `rollout_worker-0`, `planner-0`, `learner`, `replay`, `evaluator`."""
    kind: str
    """One of ROLE_KINDS."""
    actor_id: str
    """Ray's id of the actor, hexadecimal; empty with --serial."""
    pid: int
    """Its process on `host`; 0 while it has none."""
    host: str
    state: str
    """One of ROLE_STATES."""
    restarts: int
    """Times it has been started again in this sitting of the run."""
    memory_bytes: int
    """Resident memory of its process."""
    values: dict[str, float] = field(default_factory=dict)
    """Measurements of its own (docs/metrics.md)."""


@dataclass(frozen=True)
class LiveStatus:
    """The whole run at one moment."""

    time: float
    """When this was written, seconds since 1970."""
    pid: int
    """The driver's process on `host`."""
    host: str
    ray_address: str
    """Address of the Ray cluster; empty with --serial."""
    state: str
    """One of RUN_STATES."""
    notice: str
    """What the driver is doing, for people."""
    steps: int
    """Environment steps in the replay's log."""
    total_steps: int
    """Environment steps the run is to take (online.steps)."""
    updates: dict[str, int]
    """Updates done, by kind: `btm`, `critic`."""
    promised_updates: dict[str, int]
    """Updates done at the run's end, by kind."""
    seconds: float
    """Wall time of the run, earlier sittings included."""
    roles: list[RoleStatus] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    """The newest values of the stream `online` of metrics.jsonl."""

    @property
    def ended(self) -> bool:
        """Whether the driver wrote this as its last word."""
        return self.state in ENDED_STATES


def live_path(run: RunFolder) -> Path:
    """RUN/live.json."""
    return run.path / "live.json"


def write_live(run: RunFolder, status: LiveStatus) -> None:
    """Replaces live.json; a reader sees the old status or the new one. Values that are not finite become null.

    Raises:
        UserError: the folder cannot be written.
        ValueError: a state or kind that does not exist.
    """
    _check(status)
    path = live_path(run)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        # Not forced to the disk: a status from before the machine went down is of no use after it.
        temporary.write_text(json.dumps(to_json(status), indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot write the live status: {error.strerror}") from error


def read_live(run: RunFolder) -> LiveStatus:
    """The newest status. Fields this version does not know are passed over, so that a newer run can be watched.

    Raises:
        UserError: there is no status, it cannot be read, or a field is missing or of the wrong type.
    """
    path = live_path(run)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(
            f"{run.path}: no live status; is the run running? `m3pc finetune` and `m3pc resume` write {path.name}"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: the live status cannot be read: {error}") from error
    try:
        status = _from_json(json.loads(text))
        _check(status)
    except ValueError as error:  # JSON's errors are ValueErrors too
        raise UserError(f"{path}: not a live status: {error}") from error
    return status


def to_json(status: LiveStatus) -> dict[str, Any]:
    """The status as JSON can hold it: numbers that are not finite are None."""
    tree = asdict(status)
    tree["metrics"] = _finite(status.metrics)
    for role, stored in zip(status.roles, tree["roles"], strict=True):
        stored["values"] = _finite(role.values)
    return tree


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(value) if math.isfinite(value) else None for name, value in values.items()}


def _check(status: LiveStatus) -> None:
    """Raises ValueError where a state or kind is not one of those there are."""
    if status.state not in RUN_STATES:
        raise ValueError(f"state: must be one of {', '.join(RUN_STATES)}, not {status.state!r}")
    for role in status.roles:
        if role.state not in ROLE_STATES:
            raise ValueError(f"roles: {role.name}: state: must be one of {', '.join(ROLE_STATES)}, not {role.state!r}")
        if role.kind not in ROLE_KINDS:
            raise ValueError(f"roles: {role.name}: kind: must be one of {', '.join(ROLE_KINDS)}, not {role.kind!r}")


def _from_json(tree: Any) -> LiveStatus:
    """Raises ValueError, with the field's name, where something is missing or of the wrong type."""
    values = _typed_fields(tree, LiveStatus, "")
    roles = [RoleStatus(**_typed_fields(role, RoleStatus, f"roles[{n}].")) for n, role in enumerate(values["roles"])]
    return LiveStatus(**{**values, "roles": roles})


def _typed_fields(tree: Any, form: type, where: str) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise ValueError(f"{where.removesuffix('.') or 'the file'}: holds no mapping")
    values: dict[str, Any] = {}
    for name, kind in ((entry.name, str(entry.type)) for entry in fields(form)):
        if name not in tree:
            raise ValueError(f"{where}{name}: missing")
        values[name] = _typed(tree[name], kind, where + name)
    return values


def _typed(value: Any, kind: str, where: str) -> Any:
    """`value` as a field of the type written `kind`; null among floats is a number that was not finite."""
    match kind:
        case "str" if isinstance(value, str):
            return value
        case "int" if isinstance(value, int) and not isinstance(value, bool):
            return value
        case "float" if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        case "dict[str, int]" if isinstance(value, dict):
            return {name: _typed(entry, "int", f"{where}.{name}") for name, entry in value.items()}
        case "dict[str, float]" if isinstance(value, dict):
            return {
                name: math.nan if entry is None else _typed(entry, "float", f"{where}.{name}")
                for name, entry in value.items()
            }
        case "list[RoleStatus]" if isinstance(value, list):
            return value
    raise ValueError(f"{where}: must be {kind}, not {value!r:.60}")
