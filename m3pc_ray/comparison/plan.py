"""What a comparison is to hold, and whether that goes together with what its folder holds already.

Data sets, seeds and methods may be added to a folder at any time; what all cells must have in common may not change.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3pc_ray.comparison.folder import CellKey, ComparisonFolder
from m3pc_ray.comparison.method import OFFLINE
from m3pc_ray.comparison.registry import METHODS, Method, chosen_methods
from m3pc_ray.config import EvaluationConfig
from m3pc_ray.environments.make import make_environment
from m3pc_ray.errors import UserError
from m3pc_ray.training.run_folder import Locked, lock_file, write_atomically
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.resolve import absolute, load

FIRST_SEED = 51_000
"""Seed of the first evaluation episode: no setting of the product was chosen on episodes from here on."""
LOCK_SECONDS = 30.0
"""How long another process may take to write the settings."""
DEFAULTS: dict[str, Any] = {"episodes": 10, "online_steps": 0, "evaluate_every": 5_000, "threads": 1}


@dataclass(frozen=True)
class Given:
    """What the command line asks for; None or empty: as the folder has it, else the default."""

    data: Sequence[str] = ()
    methods: Sequence[str] = ()
    seeds: Sequence[int] = ()
    common: Mapping[str, int | None] = field(default_factory=dict)
    """The names of `DEFAULTS`."""
    updates: Mapping[str, int] = field(default_factory=dict)
    """Budgets that are not the default: `iql` or `m3pc.btm` -> updates."""
    settings: Mapping[str, Any] | None = None
    """Settings of our own runs."""


@dataclass(frozen=True)
class Plan:
    """What is to be made."""

    datasets: Mapping[str, str]
    """Name -> reference."""
    methods: Sequence[Method]
    seeds: Sequence[int]
    budgets: Mapping[str, Mapping[str, int]]
    points: tuple[int, ...]
    evaluation: EvaluationConfig
    threads: int
    settings: Mapping[str, Any]

    def trainings(self) -> list[Training]:
        """Every method on every data set with every seed: a data set is finished before the next one begins."""
        return [
            Training(self, dataset, method, seed)
            for dataset in self.datasets
            for seed in self.seeds
            for method in self.methods
        ]


@dataclass(frozen=True)
class Training:
    """One method, one data set, one seed."""

    plan: Plan
    dataset: str
    method: Method
    seed: int

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.method.name}-s{self.seed}"

    @property
    def points(self) -> tuple[int, ...]:
        """Environment steps at which the method is recorded online."""
        return self.plan.points if self.method.online_rows else ()

    def cells(self) -> Iterator[CellKey]:
        """What it gives, in the order in which it is made."""
        for point in (OFFLINE, *self.points):
            for row in self.method.recorded_at(point):
                yield CellKey(self.dataset, row, self.seed, point)

    def missing(self, folder: ComparisonFolder) -> list[CellKey]:
        """Those of them that are not there."""
        return [key for key in self.cells() if not folder.has(key)]


def evaluation_points(online_steps: int, every: int) -> tuple[int, ...]:
    """Environment steps at which methods are recorded: every so many, and the last."""
    if online_steps == 0:
        return ()
    return (*range(every, online_steps, every), online_steps)


def make_plan(folder: ComparisonFolder, given: Given) -> Plan:
    """Brings the folder's settings and what is asked for together, and keeps the result in the folder.

    Raises:
        UserError: unknown methods, something a method needs is not installed, data sets that cannot be read, values
            out of their range, or a folder that was made with other values of what all cells must have in common.
    """
    chosen_methods(given.methods)  # before data is read, which may take longer
    new = dict(map(_describe, given.data))
    if len(new) < len(given.data):
        raise UserError(f"--data: two of the data sets are called {' or '.join(new)}; rename one of the files")
    _agree(folder, given, new)  # before anything is written
    folder.make()
    with _alone(folder):  # others may have added to it since
        plan, kept = _agree(folder, given, new)
        write_atomically(folder.settings_path, json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    return plan


def _agree(folder: ComparisonFolder, given: Given, new: Mapping[str, dict[str, Any]]) -> tuple[Plan, dict[str, Any]]:
    """(the plan, the folder's settings with what is new in it)."""
    known = folder.settings()
    methods = chosen_methods(given.methods or list(known.get("budgets", {})) or ["m3pc"])
    for method in methods:
        method.check_installed()
    common = _common(folder, given, known)
    budgets = _budgets(folder, given, methods, known.get("budgets", {}))
    settings = known.get("settings", {}) if given.settings is None else dict(given.settings)
    if known and settings != known["settings"]:
        raise _differs(folder, "--config", settings, known["settings"])
    if not new and not known:
        raise UserError("--data: name at least one data set to compare on")
    for name, facts in new.items():
        was = known.get("datasets", {}).get(name, facts)
        if _content(was) != _content(facts):  # the file itself may lie elsewhere by now
            raise UserError(
                f"--data {facts['reference']}: {folder.path} was made with other data called {name} "
                f"({was['reference']}, {was['steps']:,} steps); rename one, or name another --out"
            )
    datasets = {**known.get("datasets", {}), **new}
    seeds = list(given.seeds or known.get("seeds", []) or [0])
    points = evaluation_points(common["online_steps"], common["evaluate_every"])
    kept = {
        "evaluation": {"episodes": common["episodes"], "seed": FIRST_SEED},
        "online_steps": common["online_steps"],
        "evaluate_every": common["evaluate_every"],
        "threads": common["threads"],
        "points": list(points),
        "settings": settings,
        "budgets": {**known.get("budgets", {}), **budgets},
        "datasets": datasets,
        "seeds": sorted({*known.get("seeds", []), *seeds}),
    }
    plan = Plan(
        datasets={name: datasets[name]["reference"] for name in list(new) or list(datasets)},
        methods=methods,
        seeds=seeds,
        budgets=budgets,
        points=points,
        evaluation=EvaluationConfig(episodes=common["episodes"], seed=FIRST_SEED),
        threads=common["threads"],
        settings=settings,
    )
    return plan, kept


@contextmanager
def _alone(folder: ComparisonFolder) -> Iterator[None]:
    """Be the only process that changes the settings; waits for others, whom it takes a moment."""
    until = time.monotonic() + LOCK_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(
                    lock_file(folder.locks / "settings.lock", f"{folder.settings_path}: is being written")
                )
                break
            except Locked:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield


def check_data(folder: ComparisonFolder, name: str, trajectories: Trajectories) -> None:
    """Raises UserError where the data is not what the folder's first cells were made with."""
    was = folder.settings()["datasets"][name]
    if _content(was) != _facts(trajectories):
        raise UserError(f"{was['reference']}: has changed since {folder.path} was made; name another --out")


def _common(folder: ComparisonFolder, given: Given, known: Mapping[str, Any]) -> dict[str, int]:
    """Values of `DEFAULTS`: those given, else the folder's, else the default.

    A folder without online steps may be given some: its offline cells are what they would have been.
    """
    was = {**DEFAULTS, **{name: known[name] for name in DEFAULTS if name in known}}
    if known:
        was["episodes"] = known["evaluation"]["episodes"]
    growing = () if was["online_steps"] else ("online_steps", "evaluate_every")
    common = {}
    for name, default in was.items():
        value = given.common.get(name)
        option = f"--{name.replace('_', '-')}"
        if value is not None and known and value != default and name not in growing:
            raise _differs(folder, option, value, default)
        common[name] = default if value is None else value
        least = 0 if name == "online_steps" else 1
        if common[name] < least:
            raise UserError(f"{option} is {common[name]}; at least {least} is needed")
    return common


def _budgets(
    folder: ComparisonFolder, given: Given, methods: Sequence[Method], known: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, int]]:
    """Updates of every chosen method."""
    budgets = {method.name: dict(known.get(method.name, method.budget)) for method in methods}
    for text, updates in given.updates.items():
        name, _, part = text.partition(".")
        if name not in METHODS:
            chosen_methods([name])
        if name not in budgets:
            raise UserError(f"--updates {text}: {name} is not among --methods {','.join(budgets)}")
        parts = list(budgets[name])
        if not part and len(parts) == 1:
            part = parts[0]
        if part not in budgets[name]:
            raise UserError(f"--updates {text}: must be one of {', '.join(f'{name}.{each}' for each in parts)}")
        if updates < 1:
            raise UserError(f"--updates {text}={updates}: at least 1 is needed")
        if name in known and known[name][part] != updates:
            raise _differs(folder, f"--updates {text}=", updates, known[name][part])
        budgets[name][part] = updates
    return budgets


def _differs(folder: ComparisonFolder, option: str, value: object, was: object) -> UserError:
    return UserError(
        f"{option} {value}: {folder.path} was made with {was}, and all its cells must be alike; name another --out, or "
        "leave the option out"
    )


def _describe(reference: str) -> tuple[str, dict[str, Any]]:
    """Name of a data set and what tells it from others; it can be read and its environment made."""
    trajectories = load(reference)
    make_environment(trajectories.metadata.environment_id).close()
    path = Path(reference).expanduser()
    name = path.resolve().stem if path.exists() else reference.replace("/", "-")
    return name, {"reference": absolute(reference), **_facts(trajectories)}


def _facts(trajectories: Trajectories) -> dict[str, Any]:
    return {
        "episodes": trajectories.num_episodes,
        "steps": trajectories.num_steps,
        "reward_sum": float(trajectories.rewards.sum(dtype="float64")),
    }


def _content(described: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in described.items() if name != "reference"}


def as_json(values: Mapping[str, Any]) -> str:
    """One line of JSON, keys in order."""
    return json.dumps(dict(values), sort_keys=True, ensure_ascii=False)
