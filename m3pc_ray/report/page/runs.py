"""The runs of a page: what their folders hold, and which of them are the same settings with different seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import all_settings, value_of
from m3pc_ray.errors import UserError
from m3pc_ray.report.metrics import Metrics, read_metrics
from m3pc_ray.training.run_folder import RunFolder

EVALUATION_FILE = "evaluation.json"
"""Where a page looks for the scores of a pretrained run: what `m3pc evaluate --json` writes."""
_NOT_SETTINGS_OF_A_GROUP = ("seed", "logging.", "planner.utility_unit_")
"""Settings in which runs of one group may differ. The units of utility are measured, so every seed has its own."""
_MOST_NAMED = 2
"""Settings that a group's label names; groups that differ in more are called by their folders."""


@dataclass(frozen=True)
class ReportedRun:
    """One run, as its files tell it."""

    folder: RunFolder
    summary: dict[str, Any]
    config: RunConfig
    metrics: Metrics
    environment: str
    """Gymnasium id; the setting's where no checkpoint tells it."""
    played: tuple[dict[str, Any], ...]
    """Rows of evaluation.json; finetuning has its evaluations in the metrics."""

    @property
    def kind(self) -> str:
        return str(self.summary.get("kind", ""))

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def dataset(self) -> str:
        """Last part of the data set's name, without its ending."""
        name = self.config.data.dataset.rstrip("/")
        return Path(name).stem if name.endswith((".hdf5", ".parquet")) else name.rpartition("/")[2]


@dataclass(frozen=True)
class Group:
    """Runs with the same settings, one a seed."""

    label: str
    runs: tuple[ReportedRun, ...]

    @property
    def kind(self) -> str:
        return self.runs[0].kind

    @property
    def seeds(self) -> str:
        """Such as `seed 0` or `seeds 0, 1, 2`; a seed that two runs share stands there twice."""
        listed = ", ".join(str(seed) for seed in sorted(run.seed for run in self.runs))
        return f"seed{'s' if len(self.runs) > 1 else ''} {listed}"


def read_run(path: str | Path) -> ReportedRun:
    """What a run's folder holds. Raises UserError where it is no run, is damaged, or has not measured anything yet."""
    folder = RunFolder.open(path)
    metrics = read_metrics(folder)
    if not metrics.rows:
        raise UserError(f"{folder.metrics_path}: missing or empty, so there is nothing to report of this run yet")
    config = folder.config()
    return ReportedRun(folder, folder.summary(), config, metrics, _environment(folder, config), _played(folder))


def has_metrics(path: str | Path) -> bool:
    """Whether a trial's folder is a run that has measured something."""
    try:
        return bool(read_metrics(RunFolder.open(path)).rows)
    except UserError:
        return False


def group_runs(runs: Sequence[ReportedRun]) -> list[Group]:
    """Runs of the same kind and settings together, whatever their seeds; in the order of the first of each."""
    groups: dict[tuple[str, str], list[ReportedRun]] = {}
    for run in runs:
        groups.setdefault((run.kind, json.dumps(_settings(run), sort_keys=True)), []).append(run)
    members = [sorted(group, key=lambda run: run.seed) for group in groups.values()]
    labels = _labels([group[0] for group in members])
    return [Group(label, tuple(group)) for label, group in zip(labels, members, strict=True)]


def changed_settings(run: ReportedRun) -> dict[str, tuple[Any, Any]]:
    """Settings that are not at their defaults: (value, default) by dotted name."""
    values = {name: (value_of(run.config, name), setting.default) for name, setting in all_settings().items()}
    return {name: pair for name, pair in values.items() if pair[0] != pair[1] and not (pair[0] == {} and not pair[1])}


def _settings(run: ReportedRun) -> dict[str, str]:
    values = {name: value_of(run.config, name) for name in all_settings()}
    return {name: repr(value) for name, value in values.items() if not name.startswith(_NOT_SETTINGS_OF_A_GROUP)}


def _labels(firsts: Sequence[ReportedRun]) -> list[str]:
    """What tells groups apart, in few words, by the first run of each: no two are the same."""
    if len(firsts) == 1:
        return [firsts[0].dataset or firsts[0].folder.path.name]
    by_kind = [[run for run in firsts if run.kind == kind] for kind in dict.fromkeys(run.kind for run in firsts)]
    names: dict[int, str] = {}
    for same in by_kind:
        settings = [_settings(run) for run in same]
        differ = [name for name in settings[0] if len({each[name] for each in settings}) > 1]
        for run in same:
            if len(same) == 1:
                names[id(run)] = {"pretrain": "pretraining", "finetune": "finetuning"}.get(run.kind, run.kind)
            elif differ == ["data.dataset"]:
                names[id(run)] = run.dataset
            elif len(differ) <= _MOST_NAMED:
                values = (f"{name.rpartition('.')[2]} {value_of(run.config, name)}" for name in differ)
                names[id(run)] = ", ".join(values)
            else:
                names[id(run)] = run.folder.path.name
    labels = [names[id(run)] for run in firsts]
    if len(set(labels)) < len(labels):
        labels = [run.folder.path.name for run in firsts]
    return labels if len(set(labels)) == len(labels) else [str(run.folder.path) for run in firsts]


def _environment(folder: RunFolder, config: RunConfig) -> str:
    for path in sorted(folder.checkpoints_path.glob("step-*/state.json"), reverse=True):
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["models"]["metadata"]["environment_id"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # removed meanwhile by the run, which goes on; or damaged, which is not for a report to say
    return config.data.environment


def _played(folder: RunFolder) -> tuple[dict[str, Any], ...]:
    path = folder.path / EVALUATION_FILE
    if not path.is_file():
        return ()
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        for row in rows:
            float(row["return_mean"]), str(row["planner"]), int(row["episodes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not what `m3pc evaluate --json` writes ({error!r})") from error
    return tuple(rows)
