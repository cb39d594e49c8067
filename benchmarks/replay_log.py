"""The replay log as it grows: append and sync of a worker's lease, opening it again, reading it back, memory.

A lease is 4 fragments of 12 steps of Hopper's sizes, appended and synced as the replay role does; episodes have 48
steps. Up to each size in turn the log is filled with a sync every 100 leases; then 100 leases are timed with a sync
each, in turn with an empty log beside it, since the seconds of a sync are those of the disk that --folder is on, and
of whoever else writes to it. Memory is what the process has grown by since the smallest size.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.fragments import EpisodeKey, Fragment
from m3pc_ray.online.replay.rate_limiter import RateLimiter
from m3pc_ray.online.replay.replay_keeper import ReplayKeeper
from m3pc_ray.trajectories.episodes import EpisodeEnd

from .synthetic import ACTION_DIM, OBSERVATION_DIM

ENVIRONMENTS, FRAGMENT_STEPS, EPISODE_STEPS = 4, 12, 48
LEASE_STEPS = ENVIRONMENTS * FRAGMENT_STEPS
TIMED_LEASES = 100
LEASES_A_SYNC = 100
"""While the log is filled between two sizes."""
READ_BLOCK = 1000
"""Fragments a call, as the learner reads them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--steps",
        type=int,
        nargs="+",
        default=[10_000, 100_000, 1_000_000],
        metavar="K",
        help="sizes of the log to measure at (default: 10000 100000 1000000; quick: 10000 100000)",
    )
    parser.add_argument("--folder", metavar="FOLDER", help="where to write the log (default: a temporary folder)")


def measure(arguments: argparse.Namespace, describe: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for every size."""
    sizes = sorted(arguments.steps)[:2] if arguments.quick else sorted(arguments.steps)
    least = TIMED_LEASES * LEASE_STEPS
    if sizes[0] < least:
        raise UserError(f"--steps is {sizes[0]}; at least {least} are needed, which are timed")
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        keeper, leases = _open(Path(folder)), _leases()
        for size in sizes:
            describe(f"filling the log up to {size:,} steps")
            while keeper.limiter.steps + least < size:
                keeper.append(next(leases))
                if keeper.num_fragments % (LEASES_A_SYNC * ENVIRONMENTS) == 0:
                    keeper.sync()
                    keeper.exchange(keeper.num_fragments, {})  # the learner has them all
            keeper.sync()
            row: dict[str, Any] = {"case": f"{size:,} steps", "steps": keeper.limiter.steps + least}
            row |= _time_leases(keeper, leases, _open(Path(folder) / f"empty-{size}"))
            keeper.exchange(keeper.num_fragments, {})
            gc.collect()
            row["resident_mb"] = _resident_bytes() / 1e6
            row["log_mb"] = keeper.status()["log_bytes"] / 1e6
            row["log_files"] = keeper.status()["log_files"]
            describe(f"reading {keeper.limiter.steps:,} steps")
            row |= _time_reading(keeper)
            describe("opening the log again")
            before = time.perf_counter()
            again = _open(Path(folder))
            row["open_s"] = time.perf_counter() - before
            assert again.num_fragments == keeper.num_fragments
            del again
            rows.append(row)
        keeper.close()
    return rows


def table(rows: list[dict[str, Any]]) -> Any:
    """The rows as people read them."""
    from rich import box
    from rich.table import Table

    shown = Table(
        title="m3pc bench replay-log",
        caption="append, sync: of a lease; in brackets: in an empty log",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("steps", "append ms", "sync ms", "read k/s", "last 10 ms", "open s", "log MB", "memory MB"):
        shown.add_column(column, justify="right")
    for row in rows:
        shown.add_row(
            f"{row['steps']:,}",
            *(f"{1e3 * row[name]:.2f} ({1e3 * row[f'empty_{name}']:.2f})" for name in ("append_s", "sync_s")),
            f"{row['read_steps_per_second'] / 1e3:,.0f}",
            f"{1e3 * row['read_last_s']:.2f}",
            f"{row['open_s']:.2f}",
            f"{row['log_mb']:.1f}",
            f"+{row['resident_mb'] - rows[0]['resident_mb']:.1f}",
        )
    return shown


def _open(folder: Path) -> ReplayKeeper:
    limiter = RateLimiter(10**9, {}, 0, 1)
    return ReplayKeeper(folder / "replay", limiter, OBSERVATION_DIM, ACTION_DIM, close_orphans=False)


def _leases() -> Iterator[list[Fragment]]:
    """Lease after lease of one worker."""
    rng = np.random.default_rng(0)
    episode = 0
    while True:
        for offset in range(0, EPISODE_STEPS, FRAGMENT_STEPS):
            ends = offset + FRAGMENT_STEPS == EPISODE_STEPS
            yield [
                Fragment(
                    key=EpisodeKey(0, 0, episode + environment),
                    offset=offset,
                    observations=rng.standard_normal((FRAGMENT_STEPS, OBSERVATION_DIM), dtype=np.float32),
                    actions=rng.uniform(-1, 1, (FRAGMENT_STEPS, ACTION_DIM)).astype(np.float32),
                    rewards=rng.standard_normal(FRAGMENT_STEPS, dtype=np.float32),
                    final_observation=rng.standard_normal(OBSERVATION_DIM, dtype=np.float32),
                    end=EpisodeEnd.TERMINATED if ends else None,
                    reset_seed=episode,
                    weight_versions=(0, 0),
                    planner="{}",
                )
                for environment in range(ENVIRONMENTS)
            ]
        episode += ENVIRONMENTS


def _time_leases(keeper: ReplayKeeper, leases: Iterator[list[Fragment]], empty: ReplayKeeper) -> dict[str, float]:
    """Median seconds for each log, one lease of each after the other."""
    times: dict[str, list[float]] = {"append_s": [], "sync_s": [], "empty_append_s": [], "empty_sync_s": []}
    for own, others in zip(itertools.islice(leases, TIMED_LEASES), _leases(), strict=False):
        for name, log, fragments in (("", keeper, own), ("empty_", empty, others)):
            before = time.perf_counter()
            log.append(fragments)
            between = time.perf_counter()
            log.sync()
            times[f"{name}append_s"].append(between - before)
            times[f"{name}sync_s"].append(time.perf_counter() - between)
    empty.close()
    return {name: statistics.median(values) for name, values in times.items()}


def _time_reading(keeper: ReplayKeeper) -> dict[str, float]:
    start = steps = 0
    before = time.perf_counter()
    while start < keeper.num_fragments:
        fragments = keeper.read(start, READ_BLOCK)
        start += len(fragments)
        steps += sum(fragment.num_steps for fragment in fragments)
    whole = time.perf_counter() - before
    assert steps == keeper.limiter.steps
    before = time.perf_counter()
    assert len(keeper.read(keeper.num_fragments - 10, 10)) == 10
    return {"read_steps_per_second": steps / whole, "read_last_s": time.perf_counter() - before}


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
