"""A million environment steps through collector, log, replay, limiter, learner and checkpoints: does anything grow?

A pendulum that costs microseconds a step and the cheapest planner there is (one pass of a tiny model), so that what is
timed is everything around them, with few updates. Shortly before the end the run is interrupted and resumed: the time
to resume runs from the start of `m3pc resume` to its first new step, mirroring the log included; beside it stands the
time to the first step of all, which is what Ray and the roles take to start.

With --soak MINUTES the same run goes on for so long, with a replay that is full early: memory of every role must be
flat from then on.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.online.exploration import lease_size
from m3pc_ray.online.watching.live import LiveStatus
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.store import write_store

from .pendulum import CHEAP, random_episodes
from .scaling import START_SECONDS, TINY
from .untrained import untrained_online_run
from .watched_run import WatchedRun, watched

MOST_SECONDS = 3600.0
"""Longest run, a soak apart."""
SAMPLE_SECONDS, SOAK_SAMPLE_SECONDS = 2.0, 10.0
"""Between two samples."""
END_PART = 0.1
"""Part of the steps over which steps a second at the start and at the end are taken."""
SETTLED_PART = 0.25
"""Part of a soak after which memory must not grow any more: processes warm up, the replay fills."""
FRAGMENT_STEPS = 50
LEASES = 10
"""Leases of every worker in a whole run, at least: it is interrupted between two of them."""
SETTINGS: dict[str, Any] = TINY | {
    "device": "cpu",
    "online.fragment_steps": FRAGMENT_STEPS,
    "online.btm_updates_per_step": 0.001,
    "online.critic_updates_per_step": 0.005,
    "online.schedule": "constant",
    "online.checkpoint_updates": 100,
    "online.checkpoint_minutes": 0.5,
    "online.evaluate_every": 0,
    "online.evaluation_episodes": 1,
    "online.threads": 1,
    "evaluation.parallel_environments": 1,
}
SOAK_CAPACITY = 100_000
"""Steps that the replay of a soak keeps."""
SOAK_STEPS = 10**9
"""More than any soak takes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=1_000_000, help="environment steps (default: 1000000)")
    parser.add_argument("--workers", type=int, default=2, help="rollout workers (default: 2)")
    parser.add_argument("--environments", type=int, default=256, metavar="E", help="of each worker (default: 256)")
    parser.add_argument("--serial", action="store_true", help="all roles in one process instead of Ray")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="bounded by time instead of steps")
    parser.add_argument("--figure", metavar="FILE", help="draw memory of every role and steps a second into this PNG")


def measure(arguments: argparse.Namespace, describe: Callable[[str], None]) -> list[dict[str, Any]]:
    """Samples in the order they were taken, and as the last row what is concluded. With --quick 50,000 steps.

    Raises:
        UserError: an option is out of its range, or the run fails.
    """
    steps = 50_000 if arguments.quick else arguments.steps
    for name, value in (
        ("--steps", steps - 999),
        ("--workers", arguments.workers),
        ("--environments", arguments.environments),
    ):
        if value < 1:
            raise UserError(f"{name}: too few; at least {1000 if name == '--steps' else 1}")
    if arguments.soak is not None and arguments.soak <= 0:
        raise UserError(f"--soak must be above 0 minutes, not {arguments.soak:g}")
    with tempfile.TemporaryDirectory(prefix="m3pc-million-") as folder:
        if arguments.soak is not None:
            run = make_run(Path(folder), SOAK_STEPS, arguments, SOAK_CAPACITY)
            return soak(run, 60.0 * arguments.soak, describe)
        run = make_run(Path(folder), steps, arguments, steps)
        return whole_run(run, describe)


def make_run(folder: Path, steps: int, arguments: argparse.Namespace, capacity: int) -> RunFolder:
    """An untrained run at its step 0; leases hold a fragment of every environment, but are LEASES a worker at least."""
    trajectories = random_episodes(CHEAP)
    write_store(trajectories, folder / "data")
    lease = max(1, min(FRAGMENT_STEPS * arguments.environments, steps // (LEASES * arguments.workers)))
    settings = SETTINGS | {
        "data.dataset": str(folder / "data"),
        "online.steps": steps,
        "online.replay_capacity": capacity,
        "online.rollout_workers": arguments.workers,
        "online.environments_per_worker": arguments.environments,
        "online.rate_tolerance_steps": 4 * arguments.workers * lease,
    }
    run = untrained_online_run(folder, with_settings(RunConfig(), settings), trajectories)
    run.write_summary({"serial": arguments.serial})
    return run


def whole_run(run: RunFolder, describe: Callable[[str], None]) -> list[dict[str, Any]]:
    """To its end, with an interruption shortly before."""
    online = run.config().online
    in_flight = 2 * online.rollout_workers * lease_size(run.config())  # every worker has two leases
    stop_at = online.steps - 2 * in_flight
    with watched(run) as driver:
        start_seconds = driver.wait_for(lambda status: status.steps > 0, START_SECONDS).time - driver.started
        samples = _samples(driver, MOST_SECONDS, SAMPLE_SECONDS, describe, lambda status: status.steps >= stop_at)
        end_seconds = driver.interrupt()
    stopped = int(run.summary()["environment_steps"])
    if stopped >= online.steps:
        raise UserError(f"{run.path}: ended before it could be interrupted; more --steps are needed here")
    describe(f"resuming at {stopped:,} steps")
    with watched(run) as driver:
        first = driver.wait_for(lambda status: status.steps > stopped, START_SECONDS)
        resume_seconds = first.time - driver.started
        samples += _samples(driver, MOST_SECONDS, SAMPLE_SECONDS, describe)
    summary = run.summary()
    if summary["status"] != "finished":
        raise UserError(f"{run.path}: {summary['status']} after {summary['environment_steps']:,} steps")
    before = [sample for sample in samples if sample["steps"] <= stopped]
    return [
        *samples,
        {
            "case": f"{online.steps:,} steps",
            "steps": summary["environment_steps"],
            "updates": {kind: summary[f"{kind}_updates"] for kind in ("btm", "critic")},
            "seconds": summary["seconds"],
            "start_steps_per_second": _rate(before, 0.0, END_PART),
            "end_steps_per_second": _rate(before, 1.0 - END_PART, 1.0),
            "log_bytes": samples[-1]["log_bytes"],
            "checkpoint_seconds": _last(samples, "checkpoint_seconds"),
            "interrupt_seconds": end_seconds,
            "start_seconds": start_seconds,
            "resumed_at": stopped,
            "resume_seconds": resume_seconds,
            "memory": _memory(before, 0.0),
        },
    ]


def soak(run: RunFolder, seconds: float, describe: Callable[[str], None]) -> list[dict[str, Any]]:
    """So many seconds of it, from when the roles are at work."""
    with watched(run) as driver:
        driver.wait_for(lambda status: status.steps > 0, START_SECONDS)
        samples = _samples(driver, seconds, SOAK_SAMPLE_SECONDS, describe)
    if len(samples) < 4:
        raise UserError(f"{len(samples)} samples in {seconds:g} s; a soak needs a minute at least")
    return [
        *samples,
        {
            "case": f"{seconds / 60:g} minutes",
            "steps": samples[-1]["steps"],
            "seconds": samples[-1]["seconds"],
            "start_steps_per_second": _rate(samples, 0.0, END_PART),
            "end_steps_per_second": _rate(samples, 1.0 - END_PART, 1.0),
            "log_bytes": samples[-1]["log_bytes"],
            "checkpoint_seconds": _last(samples, "checkpoint_seconds"),
            "memory": _memory(samples, SETTLED_PART),
        },
    ]


def _samples(
    driver: WatchedRun,
    seconds: float,
    every: float,
    describe: Callable[[str], None],
    reached: Callable[[LiveStatus], bool] = lambda status: False,
) -> list[dict[str, Any]]:
    """What statuses say, until `reached` holds of one, the run ends or the time is over."""
    taken: list[dict[str, Any]] = []
    for status in driver.statuses(seconds):
        if status.state == "running" and (not taken or status.time - taken[-1]["time"] >= every - 0.1):
            taken.append(_sample(driver.run, status))
            describe(f"{status.steps:,} steps, {status.seconds:.0f} s")
        if reached(status):
            break
    return taken


def _sample(run: RunFolder, status: LiveStatus) -> dict[str, Any]:
    learner = [role.values for role in status.roles if role.kind == "learner"]
    return {
        "time": status.time,
        "seconds": status.seconds,
        "steps": status.steps,
        "log_bytes": sum(path.stat().st_size for path in (run.path / "replay").glob("log-*.arrow")),
        "checkpoint_seconds": learner[0].get("checkpoint_seconds", 0.0) if learner else 0.0,
        "memory_mb": {"driver": _resident_bytes(status.pid) / 2**20}
        | {role.name: role.memory_bytes / 2**20 for role in status.roles},
    }


def _resident_bytes(pid: int) -> int:
    """Of a process of this machine, from Linux's /proc; 0 where it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    lines = [line.split() for line in text.splitlines() if line.startswith("VmRSS:")]
    return int(lines[0][1]) * 1024 if lines else 0


def _rate(samples: list[dict[str, Any]], first: float, last: float) -> float:
    """Steps a second between two parts of the samples' steps, at least two samples apart."""
    steps = np.array([sample["steps"] for sample in samples], dtype=float)
    times = np.array([sample["time"] for sample in samples])
    low, high = (np.searchsorted(steps, steps[0] + part * (steps[-1] - steps[0])) for part in (first, last))
    low = min(int(low), len(steps) - 2)
    high = max(int(high), low + 1)
    return float((steps[high] - steps[low]) / (times[high] - times[low]))


def _memory(samples: list[dict[str, Any]], settled: float) -> dict[str, dict[str, float]]:
    """Megabytes of every role when it has settled, at the end, at most, and how many an hour it gains from then on."""
    rows = samples[int(settled * len(samples)) :]
    hours = np.array([row["time"] for row in rows]) / 3600.0
    found: dict[str, dict[str, float]] = {}
    for role in rows[-1]["memory_mb"]:
        memory = np.array([row["memory_mb"].get(role, np.nan) for row in rows])
        known = np.isfinite(memory)
        slope = np.polyfit(hours[known] - hours[0], memory[known], 1)[0] if known.sum() > 2 else 0.0
        start, end = float(memory[known][0]), float(memory[-1])
        found[role] = {"start": start, "end": end, "most": float(memory[known].max()), "per_hour": float(slope)}
    return found


def _last(samples: list[dict[str, Any]], name: str) -> float:
    """The newest value that is not 0; 0 where there is none."""
    return next((sample[name] for sample in reversed(samples) if sample[name]), 0.0)


def table(rows: list[dict[str, Any]]) -> Any:
    """What is concluded, and memory by role."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    result = rows[-1]
    facts = Table(title=f"m3pc bench million: {result['case']}", box=box.SIMPLE_HEAD, show_header=False)
    lines = {
        "steps taken": f"{result['steps']:,}",
        "wall time": f"{result['seconds']:.0f} s",
        "steps/s at the start": f"{result['start_steps_per_second']:,.0f}",
        "steps/s at the end": f"{result['end_steps_per_second']:,.0f}",
        "log": f"{result['log_bytes'] / 2**20:.1f} MiB, {result['log_bytes'] / result['steps']:.0f} bytes a step",
        "checkpoint": f"{result['checkpoint_seconds']:.2f} s" if result["checkpoint_seconds"] else "not measured",
    }
    if "resume_seconds" in result:
        lines["start to the first step"] = f"{result['start_seconds']:.1f} s"
        lines["Ctrl-C to the end"] = f"{result['interrupt_seconds']:.1f} s"
        lines[f"resume at {result['resumed_at']:,}"] = f"{result['resume_seconds']:.1f} s to the first new step"
    for name, value in lines.items():
        facts.add_row(name, value)
    memory = Table(box=box.SIMPLE_HEAD, caption="resident memory, MiB")
    columns = {"start": "at first", "end": "at the end", "most": "at most"}
    if "resume_seconds" not in result:  # the minutes of a whole run say nothing about an hour
        columns["per_hour"] = "more an hour"
    for column in ("role", *columns.values()):
        memory.add_column(column, justify="left" if column == "role" else "right")
    for role, values in result["memory"].items():
        memory.add_row(role, *(f"{values[name]:.0f}" for name in columns))
    return Group(facts, memory)


def draw(rows: list[dict[str, Any]], path: str) -> None:
    """Memory of every role, and steps a second, over the run's time."""
    from m3pc_ray.report.style import figure

    samples = rows[:-1]
    minutes = [sample["seconds"] / 60.0 for sample in samples]
    with figure(path, columns=2, width=9.0, height=3.4) as (memory, speed):
        for role in samples[-1]["memory_mb"]:
            memory.plot(minutes, [sample["memory_mb"].get(role, np.nan) for sample in samples], label=role)
        memory.set_xlabel("minutes")
        memory.set_ylabel("resident memory (MiB)")
        memory.set_ylim(bottom=0, top=1.6 * max(max(sample["memory_mb"].values()) for sample in samples))
        memory.legend(ncols=2, loc="upper left")
        pairs = list(zip(samples, samples[1:], strict=False))
        rates = [(after["steps"] - before["steps"]) / (after["time"] - before["time"]) for before, after in pairs]
        speed.plot(minutes[1:], rates, color="#4477aa")
        speed.set_xlabel("minutes")
        speed.set_ylabel("environment steps a second")
        speed.set_ylim(bottom=0)
