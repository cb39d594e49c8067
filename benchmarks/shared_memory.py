"""Learners side by side on one machine: memory, start and sampling, with data.share_memory and without.

Every learner is a process of its own that starts as in `m3pc finetune`, with a model of random weights and the preset's
sizes, and does a few updates. Memory is the kernel's: PSS, in which a page that k processes have in common counts 1/k
in each, so that the sum over all learners is what they take together; and private pages.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from m3pc_ray.config import DataConfig, LoggingConfig, OnlineConfig, RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.online.learner import Learner, build_storage
from m3pc_ray.online.preparation import prepare
from m3pc_ray.online.replay.offline_data import OfflineData
from m3pc_ray.online.replay.replay_storage import ReplayStorage
from m3pc_ray.training.assemble import load_models, models_from_checkpoint
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.resolve import load
from m3pc_ray.trajectories.store import write_store

from .synthetic import make_trajectories
from .untrained import untrained_run

SYNTHETIC_STEPS = 1_000_000
UPDATES = {"btm": 2, "critic": 20}
ROUNDS, CALLS = 60, 20
"""Of alternating measurements of sampling, and calls in one."""
SHARED = {False: "own", True: "shared"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--datasets", nargs="+", default=[], metavar="DATA", help="beside 1M synthetic steps")
    parser.add_argument("--learners", nargs="+", type=int, default=[1, 2, 4], metavar="N", help="side by side")


def measure(arguments: argparse.Namespace, describe: Callable[[str], None]) -> list[dict[str, Any]]:
    """For every data set a row of sampling, and one for every number of learners; quick: given data sets alone."""
    rows = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        datasets = list(arguments.datasets)
        if not arguments.quick or not datasets:
            describe("making 1M steps")
            write_store(make_trajectories(SYNTHETIC_STEPS), folder / "synthetic", compression_level=1)
            datasets.append(str(folder / "synthetic"))
        for dataset in datasets:
            name = Path(dataset).stem
            source, config = _untrained(folder / f"{name}-pretrained", dataset)
            for count in arguments.learners:
                describe(f"{name}, {count} learners")
                rows.append({"case": f"{name} x {count}"} | _side_by_side(source, config, count))
            describe(f"{name}, sampling")
            rows.append({"case": name} | _sampling(source, config, folder))
    return rows


def _untrained(path: Path, dataset: str) -> tuple[RunFolder, RunConfig]:
    online = OnlineConfig(offline_episodes=10**6)
    config = RunConfig(device="cpu", data=DataConfig(dataset), online=online, logging=LoggingConfig(tensorboard=False))
    return untrained_run(path, config, load(dataset)), config


def _share(config: RunConfig, share: bool) -> RunConfig:
    return with_settings(config, {"data.share_memory": share})


def _side_by_side(source: RunFolder, config: RunConfig, count: int) -> dict[str, Any]:
    """Megabytes (10**6 bytes) of all learners together and of each, and seconds; medians over the learners."""
    row: dict[str, Any] = {}
    for share, label in SHARED.items():
        with tempfile.TemporaryDirectory() as folder:
            runs = [Path(folder) / f"run-{number}" for number in range(count)]
            driver = _Child(_drive, folder, source.path, runs, _share(config, share))
            driver.end()
            learners = [_Child(_learn, folder, run) for run in runs]  # in turn: else the times would be of the queue
            pages = [learner.pages() for learner in learners]
            for learner in learners:
                learner.end()
        own = [values["Private_Clean"] + values["Private_Dirty"] for values in pages]
        row |= {
            f"{label}_pss_mb": sum(values["Pss"] for values in pages) / 1e6,
            f"{label}_private_mb": statistics.median(own) / 1e6,
            f"{label}_first_prepare_s": driver.answer[0],
            f"{label}_prepare_s": statistics.median(driver.answer[1:] or driver.answer),
            f"{label}_storage_s": statistics.median(learner.answer for learner in learners),
        }
    return row


class _Child:
    """A fresh process that answers once and then waits for its end."""

    def __init__(self, work: Callable[..., Any], folder: str, *words: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work, folder, *words))
        self._process.start()
        theirs.close()  # so that the death of the process ends the wait for its answer
        self.answer: Any = self._pipe.recv()

    def pages(self) -> dict[str, int]:
        """Bytes of its memory by the kernel's names."""
        lines = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()[1:]
        return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}

    def end(self) -> None:
        self._pipe.send(None)
        self._process.join()


def _serve(pipe: Connection, work: Callable[..., Any], folder: str, *words: Any) -> None:
    torch.set_num_threads(1)
    tempfile.tempdir = folder  # where the shared file goes
    answer, kept = work(*words)
    pipe.send(answer)
    pipe.recv()
    del kept


def _drive(source: Path, runs: list[Path], config: RunConfig) -> tuple[list[float], None]:
    """What the driver of each run does before there is a learner; seconds of each."""
    seconds = []
    for run in runs:
        began = time.perf_counter()
        prepare(RunFolder.open(source), run, config)
        seconds.append(time.perf_counter() - began)
    return seconds, None


def _learn(path: Path) -> tuple[float, Learner]:
    """A learner that has done some updates, made as in `online.roles`; seconds that its storage took."""
    run = RunFolder.open(path)
    tensors, state = load_checkpoint(run)
    models = models_from_checkpoint(run.config(), tensors, state)
    began = time.perf_counter()
    storage = build_storage(run.config(), models)
    seconds = time.perf_counter() - began
    learner = Learner(run.config(), models, storage, tensors, state)
    del tensors, state
    learner.update(UPDATES)
    return seconds, learner


def _sampling(source: RunFolder, config: RunConfig, folder: Path) -> dict[str, Any]:
    """Microseconds of a batch, medians of alternating measurements, from the same generator's draws."""
    models, before = load_models(source), tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        storages = {label: build_storage(_share(config, share), models) for share, label in SHARED.items()}
    finally:
        tempfile.tempdir = before
    works: dict[str, Callable[[ReplayStorage, np.random.Generator], object]] = {
        "segments": lambda it, rng: [it.sample_segments(rng, config.online.btm_batch_size) for _ in range(CALLS)],
        "transitions": lambda it, rng: it.sample_transitions(rng, CALLS, config.critic.batch_size),
    }
    times: dict[str, list[float]] = {}
    for seed in range(ROUNDS):
        for name, work in works.items():
            for label in sorted(storages, reverse=bool(seed % 2)):  # who comes second finds warmer caches
                rng, began = np.random.default_rng(seed), time.perf_counter()
                work(storages[label], rng)
                times.setdefault(f"{label}_{name}_us", []).append(1e6 * (time.perf_counter() - began) / CALLS)
    offline = OfflineData.of(config, models.description()).rows(0)
    megabytes = (offline.steps.values.nbytes + offline.outcomes.values.nbytes) / 1e6
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"steps": offline.offline_steps, "rows_mb": megabytes} | medians


def table(rows: list[dict[str, Any]]) -> Any:
    """Learners above, sampling below."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table

    def empty(title: str, *columns: str) -> Table:
        made = Table("own / shared", title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            made.add_column(column, justify="right", no_wrap=True)
        return made

    def both(row: dict[str, Any], name: str, form: str) -> str:
        return " / ".join(form.format(row[f"{label}_{name}"]) for label in SHARED.values())

    learners = empty("m3pc bench shared-memory: learners", "PSS MB", "private each", "prepare s", "first", "storage ms")
    sampling = empty("a batch", "steps", "rows MB", "segments µs", "transitions µs")
    for row in rows:
        if "own_pss_mb" in row:
            seconds = (both(row, "prepare_s", "{:.2f}"), f"{row['shared_first_prepare_s']:.2f}")
            storage = " / ".join(f"{1e3 * row[f'{label}_storage_s']:.0f}" for label in SHARED.values())
            memory = (both(row, "pss_mb", "{:.0f}"), both(row, "private_mb", "{:.0f}"))
            learners.add_row(row["case"], *memory, *seconds, storage)
        else:
            shown = (both(row, "segments_us", "{:.0f}"), both(row, "transitions_us", "{:.1f}"))
            sampling.add_row(row["case"], f"{row['steps']:,}", f"{row['rows_mb']:.1f}", *shown)
    return Group(learners, sampling)
