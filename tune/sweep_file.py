"""Reads sweep files; a mistake is a `UserError` of one line that names file and key, and says what would be right."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from m3pc_ray.errors import UserError
from m3pc_ray.yaml_text import read_yaml
from tune.definition import PLAIN, Kind, Scheduler, SchedulerName, SearcherName, Sweep
from tune.rules import check_rules
from tune.space import Settings, checked_value, read_axis

_KEYS = (
    "name",
    "kind",
    "space",
    "seeds",
    "settings",
    "baseline",
    "scheduler",
    "report_steps",
    "runs",
    "identity",
    *PLAIN,
)


def load_sweep(path: Path, overrides: Mapping[str, Any] | None = None, keys: Mapping[str, Any] | None = None) -> Sweep:
    """The sweep of a file.

    Args:
        path: the YAML file.
        overrides: settings of every trial from the command line, dotted name -> text.
        keys: of the file itself, that replace what it says.

    Raises:
        UserError: the file cannot be read, or what it says is no sweep.
    """
    tree = read_yaml(path)
    tree.setdefault("name", path.stem)
    return read_sweep({**tree, **(keys or {})}, str(path), overrides)


def read_sweep(tree: Mapping[str, Any], source: str, overrides: Mapping[str, Any] | None = None) -> Sweep:
    """The sweep that a mapping describes; `source` is named in errors.

    Raises:
        UserError: a key, a setting or a value is wrong.
    """
    for key in tree:
        if key not in _KEYS:
            close = difflib.get_close_matches(str(key), _KEYS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(_KEYS)}"
            raise UserError(f"{source}: {key}: no such key of a sweep; {hint}")
    settings = _settings(tree.get("settings"), f"{source}: settings")
    settings |= {name: checked_value(name, value, "command line") for name, value in (overrides or {}).items()}
    baseline = _mapping(tree.get("baseline"), f"{source}: baseline")
    if unknown := set(baseline) - {"label", "settings"}:
        raise UserError(f"{source}: baseline: {unknown.pop()}: must be label or settings")
    sweep = Sweep(
        name=str(tree.get("name", "sweep")),
        kind=_one_of(tree.get("kind"), get_args(Kind), f"{source}: kind"),
        space={
            name: read_axis(name, axis, source)
            for name, axis in _mapping(tree.get("space"), f"{source}: space").items()
        },
        seeds=_whole_numbers(tree.get("seeds", [0]), f"{source}: seeds"),
        settings=settings,
        baseline=None
        if tree.get("baseline") is None
        else _settings(baseline.get("settings"), f"{source}: baseline: settings"),
        baseline_label=str(baseline.get("label", "baseline")),
        report_steps=_whole_numbers(tree.get("report_steps", []), f"{source}: report_steps"),
        scheduler=_read_scheduler(tree.get("scheduler", "none"), f"{source}: scheduler"),
        runs=_texts(tree.get("runs"), f"{source}: runs"),
        identity=str(tree.get("identity", "")),
        **{name: _plain(tree[name], kind, f"{source}: {name}") for name, kind in PLAIN.items() if name in tree},
    )
    check_rules(sweep, source)
    return sweep


def _read_scheduler(described: Any, where: str) -> Scheduler:
    values = {"name": described} if isinstance(described, str) else _mapping(described, where)
    fields = {item.name: item for item in dataclasses.fields(Scheduler)}
    if unknown := set(values) - set(fields):
        raise UserError(f"{where}: {unknown.pop()}: must be one of {', '.join(fields)}")
    numbers = {name: _plain(value, int, f"{where}: {name}") for name, value in values.items() if name != "name"}
    scheduler = Scheduler(_one_of(values.get("name"), get_args(SchedulerName), f"{where}: name"), **numbers)
    if scheduler.reduction_factor < 2 or scheduler.grace_steps < 0 or scheduler.interval_steps < 0:
        raise UserError(f"{where}: reduction_factor must be at least 2, grace_steps and interval_steps at least 0")
    return scheduler


def _settings(value: Any, where: str) -> Settings:
    return {name: checked_value(name, given, where) for name, given in _mapping(value, where).items()}


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{where}: must be a mapping")
    for key in value:
        if not isinstance(key, str):
            raise UserError(f"{where}: {key}: must be a name")
    return value


def _one_of(value: Any, choices: tuple[str, ...], where: str) -> Any:
    if value not in choices:
        raise UserError(f"{where}: must be {' or '.join(choices)}, not {'nothing' if value is None else value}")
    return value


def _whole_numbers(value: Any, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or any(not isinstance(v, int) or isinstance(v, bool) for v in value):
        raise UserError(f"{where}: must be a list of whole numbers, such as [0, 1, 2]")
    return tuple(value)


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise UserError(f"{where}: must be a list of folders, such as [runs/hopper]")
    return tuple(value)


def _plain(value: Any, kind: type, where: str) -> Any:
    if kind is str:
        return _one_of(value, get_args(SearcherName), where)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or (kind is int and value != int(value)):
        raise UserError(f"{where}: must be a {'whole ' if kind is int else ''}number, not {value}")
    return kind(value)
