"""A live status as a screen: the run, every role, what limits it. Used by `m3pc top`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from m3pc_ray.online.watching.bottleneck import Finding
from m3pc_ray.online.watching.live import LiveStatus, RoleStatus

_STATE_STYLES = {"running": "green", "finished": "green", "restarting": "yellow", "recovering": "yellow"}
_STATE_STYLES |= {"failed": "bold red", "interrupted": "yellow"}
_BATCH = re.compile(r"batch_(\d+)")


def live_screen(
    title: str, status: LiveStatus, environments: float, findings: Sequence[Finding], warning: str = ""
) -> RenderableType:
    """One frame.

    Args:
        title: name of the run.
        status: the moment shown.
        environments: that one planner serves, which its batches are compared with.
        findings: of `bottleneck.findings`; the last is the bottleneck.
        warning: shown first where it is not empty.
    """
    parts: list[RenderableType] = [Text(warning, style="bold red")] if warning else []
    parts += [_run_table(title, status, environments), _role_table(status.roles)]
    parts += [Text(finding.sentence, style="yellow") for finding in findings[:-1]]
    parts += [Text("bottleneck: ", style="bold").append(findings[-1].sentence, style="not bold")]
    return Group(*parts)


def _run_table(title: str, status: LiveStatus, environments: float) -> Table:
    style = _STATE_STYLES.get(status.state, "cyan")
    notice = f": {escape(status.notice)}" if status.notice and status.notice != status.state else ""
    heading = f"{escape(title)}  [{style}]{status.state}[/{style}]{notice}"
    table = Table(title=heading, title_justify="left", title_style="", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, text in _run_rows(status, environments):
        table.add_row(name, text)
    return table


def _run_rows(status: LiveStatus, environments: float) -> list[tuple[str, str]]:
    fill = status.metrics.get("planner_batch_mean", math.nan) / environments
    metrics: dict[str, float | str] = {**status.metrics, "fill": fill, "environments": environments}
    rows = [("environment steps", _steps(status))]
    rows += [
        (f"{'model' if kind == 'btm' else kind} updates", f"{done:,} of {status.promised_updates.get(kind, 0):,}")
        for kind, done in status.updates.items()
    ]
    groups: dict[str, dict[str, str]] = {
        "waiting for the limiter": {"rollouts": "{waiting_steps:.0%}", "learner": "{waiting_updates:.0%}"},
        "rollout workers": {"planning": "{planning_share:.0%}", "simulating": "{simulation_share:.0%}"},
        "planner": {
            "batch": "{planner_batch_mean:.1f} of {environments:.0f} environments ({fill:.0%})",
            "computing": "{planner_batch_ms:.1f} ms",
            "waiting": "{planner_wait_ms:.1f} ms",
            "busy": "{planner_busy:.0%}",
            "decisions": "{planner_decisions_per_second:,.0f}/s",
        },
        "weight lag, updates": {
            "min": "{weight_lag_min:,.0f}",
            "mean": "{weight_lag_mean:,.0f}",
            "max": "{weight_lag_max:,.0f}",
        },
        "learner": {"busy": "{learner_busy:.0%}", "segments": "{replay_segments:,.0f}"},
        "replay": {
            "fragments": "{fragments:,.0f}",
            "in memory": "{fragments_in_memory:,.0f}",
            "duplicates dropped": "{duplicates:,.0f}",
        },
    }
    for heading, cells in groups.items():
        shown = [f"{name} {text}" for name, pattern in cells.items() if (text := _filled(pattern, metrics))]
        if shown:
            rows.append((heading, "  ".join(shown)))
    return rows


def _steps(status: LiveStatus) -> str:
    text = f"{status.steps:,} of {status.total_steps:,}"
    speed = status.metrics.get("steps_per_second", math.nan)
    if math.isfinite(speed):
        text += f"  {speed:.1f}/s"
        if speed > 0 and not status.ended:
            text += f"  about {(status.total_steps - status.steps) / speed / 60:,.0f} min left"
    return text


def _filled(pattern: str, values: Mapping[str, float | str]) -> str:
    """The pattern with its number; empty where that is not measured."""
    try:
        text = pattern.format_map(values)
    except KeyError:
        return ""
    return "" if "nan" in text else text


def _role_table(roles: Sequence[RoleStatus]) -> Table:
    table = Table(show_edge=False)
    for name, justify in (("role", "left"), ("state", "left"), ("restarts", "right"), ("memory", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("process", no_wrap=True)
    table.add_column("numbers")
    for role in roles:
        style = _STATE_STYLES.get(role.state, "cyan")
        table.add_row(
            role.name,
            Text(role.state, style=style),
            str(role.restarts),
            _bytes(role.memory_bytes),
            f"{role.pid or '-'} {role.host}",
            _role_numbers(role),
        )
    return table


_NUMBERS = {
    "rollout_worker": (
        "{steps_per_second:.1f} steps/s",
        "planning {planning_share:.0%}",
        "simulating {simulation_share:.0%}",
        "unlogged {unacknowledged_fragments:.0f}",
    ),
    "planner": ("{decisions_per_second:.0f}/s", "busy {busy:.0%}", "queue {queue:.0f}", "weights {weight_version:.0f}"),
    "learner": (
        "model {updates_per_second_btm:.1f}/s",
        "critic {updates_per_second_critic:.0f}/s",
        "busy {busy:.0%}",
        "unsaved {updates_since_checkpoint:.0f}",
    ),
    "replay": ("in memory {fragments_in_memory:.0f}", "log {log_size}", "syncing {sync_share:.0%}"),
    "evaluator": ("{steps:,.0f} steps",),
}
"""What is shown of a role's own values (docs/metrics.md), by kind."""


def _role_numbers(role: RoleStatus) -> str:
    """A role's own values in a line; batches of a planner as shares of each size."""
    values: dict[str, float | str] = {**role.values}
    if "log_bytes" in role.values:
        values["log_size"] = _bytes(role.values["log_bytes"])
    parts = [text for pattern in _NUMBERS[role.kind] if (text := _filled(pattern, values))]
    batches = {int(match[1]): value for name, value in role.values.items() if (match := _BATCH.fullmatch(name))}
    if total := sum(value for value in batches.values() if math.isfinite(value)):
        sizes = (f"{size}: {count / total:.0%}" for size, count in sorted(batches.items()) if count > 0)
        parts.append("batches " + ", ".join(sizes))
    return "  ".join(parts)


def _bytes(count: float) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
