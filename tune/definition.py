"""A sweep as its file describes it: what varies, over which seeds, what every trial is.

    name: lambda
    kind: evaluate                       # planner settings of pretrained runs; `finetune`: whole online runs
    space:
      planner.td_lambda: [0, 0.3, 0.6]   # see `tune.space`
    seeds: [0, 1, 2]                     # averaged over
    settings: {evaluation.episodes: 10}  # the same for every trial
    baseline: {label: no planning, settings: {planner.guide: none}}

`Sweep`'s fields are all keys there are. Settings are named by their dotted path everywhere.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import read_yaml
from m3pc_ray.errors import UserError
from tune.space import Axis, Settings, checked_value, combinations, read_axis

Kind = Literal["evaluate", "finetune"]
SchedulerName = Literal["none", "asha", "pbt"]
SearcherName = Literal["enumerate", "optuna"]
EVALUATE_SECTIONS = ("planner.", "evaluation.")
"""Settings that need no training."""
BUDGET = ("online.steps", "online.evaluate_every", "evaluation.episodes", "online.evaluation_episodes")
"""Settings that every trial shares: scores are compared at equal budgets."""
SEED_STRIDE = 1000
"""Episodes between those of two seeds with kind `evaluate`."""


@dataclass(frozen=True)
class Scheduler:
    """Who may end trials early, or change their settings."""

    name: SchedulerName = "none"
    """`asha` (asynchronous successive halving) ends the worse ones early; `pbt` (population-based training) lets the
    worst continue from the best with changed settings."""
    grace_steps: int = 0
    """asha: environment steps that every trial is given; 0: a tenth of online.steps."""
    reduction_factor: int = 3
    """asha: one trial of so many goes on at every rung."""
    interval_steps: int = 0
    """pbt: environment steps between two comparisons; 0: online.evaluate_every."""


@dataclass(frozen=True)
class Sweep:
    """One sweep; the fields are the keys of its file."""

    name: str
    """For titles."""
    kind: Kind
    """What a trial is: `evaluate` plays episodes with a pretrained run, `finetune` is a whole online run."""
    space: dict[str, Axis] = field(default_factory=dict)
    """What varies; empty: the seeds alone."""
    seeds: tuple[int, ...] = (0,)
    """Every setting is tried with each. evaluate: seed s plays the episodes from evaluation.seed + 1000 s on;
    finetune: setting `seed`."""
    settings: Settings = field(default_factory=dict)
    """Settings of every trial that differ from the pretrained run's."""
    baseline: Settings = field(default_factory=dict)
    """Settings of a trial that is compared with all; empty: none."""
    baseline_label: str = "baseline"
    """How it is called in tables and figures."""
    report_steps: tuple[int, ...] = ()
    """finetune: environment steps whose scores are concluded from; empty: the last alone."""
    samples: int = 1
    """Draws of what is random in the space; with searcher optuna its suggestions."""
    sampling_seed: int = 0
    """Seed of these draws."""
    searcher: SearcherName = "enumerate"
    """`enumerate`: the grid and random draws; `optuna`: the Tree-structured Parzen Estimator (extra `optuna`)."""
    scheduler: Scheduler = field(default_factory=Scheduler)
    runs: tuple[str, ...] = ()
    """Pretrained runs every trial is made with; several count as further seeds."""
    trial_cpus: float = 0.0
    """CPU cores of a trial; 0: one with kind evaluate; what its roles wish, at most all there are, with finetune."""
    trial_gpus: int = 0
    """GPUs of a trial."""
    max_concurrent: int = 0
    """Trials at a time; 0: as many as fit."""
    max_failures: int = 2
    """Times a trial that died, with its node for example, is taken up again."""

    @property
    def varied(self) -> list[str]:
        """Names of the settings that vary, in the file's order."""
        return list(self.space)

    def combinations(self) -> list[Settings]:
        """All settings to be tried, where they are known beforehand (searcher `enumerate`)."""
        return combinations(self.space, self.samples, self.sampling_seed)

    def described(self) -> dict[str, Any]:
        """As its file has it, complete: `read_sweep` gives an equal sweep."""
        tree: dict[str, Any] = {"name": self.name, "kind": self.kind}
        tree["space"] = {name: axis.described() for name, axis in self.space.items()}
        tree["seeds"], tree["settings"] = list(self.seeds), dict(self.settings)
        if self.baseline:
            tree["baseline"] = {"label": self.baseline_label, "settings": dict(self.baseline)}
        tree["scheduler"] = dataclasses.asdict(self.scheduler)
        tree["report_steps"], tree["runs"] = list(self.report_steps), list(self.runs)
        for name in _PLAIN:
            tree[name] = getattr(self, name)
        return tree


_PLAIN: dict[str, type] = {
    "samples": int,
    "sampling_seed": int,
    "searcher": str,
    "trial_cpus": float,
    "trial_gpus": int,
    "max_concurrent": int,
    "max_failures": int,
}
"""Keys with a single value, and its type."""
_KEYS = ("name", "kind", "space", "seeds", "settings", "baseline", "scheduler", "report_steps", "runs", *_PLAIN)


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
    settings = {
        name: checked_value(name, value, f"{source}: settings") for name, value in _of(tree, "settings", source)
    }
    settings |= {name: checked_value(name, value, "command line") for name, value in (overrides or {}).items()}
    baseline = _mapping(tree.get("baseline"), f"{source}: baseline")
    if unknown := set(baseline) - {"label", "settings"}:
        raise UserError(f"{source}: baseline: {unknown.pop()}: must be label or settings")
    against = {
        name: checked_value(name, value, f"{source}: baseline")
        for name, value in _of(baseline, "settings", f"{source}: baseline")
    }
    sweep = Sweep(
        name=str(tree.get("name", "sweep")),
        kind=_one_of(tree.get("kind"), get_args(Kind), f"{source}: kind"),
        space={name: read_axis(name, described, source) for name, described in _of(tree, "space", source)},
        seeds=_whole_numbers(tree.get("seeds", [0]), f"{source}: seeds"),
        settings=settings,
        baseline=against,
        baseline_label=str(baseline.get("label", "baseline")),
        report_steps=_whole_numbers(tree.get("report_steps", []), f"{source}: report_steps"),
        scheduler=_read_scheduler(tree.get("scheduler", "none"), f"{source}: scheduler"),
        runs=tuple(str(run) for run in tree.get("runs", [])),
        **{name: _plain(tree[name], kind, f"{source}: {name}") for name, kind in _PLAIN.items() if name in tree},
    )
    _check(sweep, source)
    return sweep


def trial_settings(sweep: Sweep, settings: Settings, seed: int, baseline: bool = False) -> Settings:
    """Everything in which a trial differs from its pretrained run.

    Args:
        settings: of the varied settings; none for the baseline.
    """
    merged = {**sweep.settings, **(sweep.baseline if baseline else settings)}
    if sweep.kind == "finetune":
        shared = {"data.share_memory": sys.platform == "linux"}  # trials on one machine hold the data set once
        return {**shared, **merged, "seed": seed}
    first = merged.get("evaluation.seed", RunConfig().evaluation.seed)
    return {**merged, "evaluation.seed": first + SEED_STRIDE * seed}


def _check(sweep: Sweep, source: str) -> None:
    """What cannot be said of one key alone."""
    for name in (*sweep.space, *sweep.settings, *sweep.baseline):
        if sweep.kind == "evaluate" and not name.startswith(EVALUATE_SECTIONS):
            raise UserError(
                f"{source}: {name}: takes training to try; kind evaluate takes planner.* and evaluation.* only, "
                "kind finetune all"
            )
    for name in sweep.space:
        if name in sweep.settings:
            raise UserError(f"{source}: {name}: varies and is fixed at once; leave out one of the two")
        if name in BUDGET:
            raise UserError(f"{source}: space: {name}: must be the same for all trials; give it under `settings`")
        if name == ("seed" if sweep.kind == "finetune" else "evaluation.seed"):
            raise UserError(f"{source}: space: {name}: seeds are averaged over; list them under `seeds`")
    if "seed" in sweep.settings:
        raise UserError(f"{source}: settings: seed: list seeds under `seeds`")
    if not sweep.seeds or len(set(sweep.seeds)) < len(sweep.seeds) or min(sweep.seeds) < 0:
        raise UserError(f"{source}: seeds: must be different whole numbers from 0 on, one at least")
    if any(axis.kind == "grid" for axis in sweep.space.values()) and sweep.searcher == "optuna":
        raise UserError(f"{source}: searcher: optuna suggests; give choice, uniform or log_uniform instead of a grid")
    if sweep.searcher == "optuna" and not sweep.space:
        raise UserError(f"{source}: searcher: optuna needs a space")
    if sweep.searcher == "optuna" and sweep.scheduler.name != "none":
        raise UserError(f"{source}: scheduler: {sweep.scheduler.name} and searcher optuna do not go together")
    if sweep.samples > 1 and not any(axis.is_random for axis in sweep.space.values()):
        raise UserError(f"{source}: samples: nothing in the space is random")
    for name, least in {"samples": 1, "trial_cpus": 0, "trial_gpus": 0, "max_concurrent": 0, "max_failures": 0}.items():
        if getattr(sweep, name) < least:
            raise UserError(f"{source}: {name}: must be at least {least}, not {getattr(sweep, name)}")
    if sweep.kind == "evaluate":
        if sweep.scheduler.name != "none":
            raise UserError(f"{source}: scheduler: {sweep.scheduler.name} needs kind finetune; evaluations are short")
        if sweep.report_steps:
            raise UserError(f"{source}: report_steps: needs kind finetune")
        episodes = sweep.settings.get("evaluation.episodes", RunConfig().evaluation.episodes)
        if len(sweep.seeds) > 1 and episodes > SEED_STRIDE:
            raise UserError(f"{source}: evaluation.episodes: at most {SEED_STRIDE} where there are several seeds")
    if sweep.scheduler.name == "pbt":
        if not all(axis.is_random for axis in sweep.space.values()) or not sweep.space:
            raise UserError(
                f"{source}: scheduler: pbt needs a space of choice, uniform or log_uniform to change within"
            )
        if sweep.baseline:
            raise UserError(f"{source}: baseline: has no place in a population (scheduler pbt)")


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


def _of(tree: Mapping[str, Any], key: str, source: str) -> list[tuple[str, Any]]:
    return list(_mapping(tree.get(key), f"{source}: {key}").items())


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{where}: must be a mapping")
    return value


def _one_of(value: Any, choices: tuple[str, ...], where: str) -> Any:
    if value not in choices:
        raise UserError(f"{where}: must be {' or '.join(choices)}, not {'nothing' if value is None else value}")
    return value


def _whole_numbers(value: Any, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or any(not isinstance(v, int) or isinstance(v, bool) for v in value):
        raise UserError(f"{where}: must be a list of whole numbers, such as [0, 1, 2]")
    return tuple(value)


def _plain(value: Any, kind: type, where: str) -> Any:
    if kind is str:
        return _one_of(value, get_args(SearcherName), where)
    if isinstance(value, bool) or not isinstance(value, int | float) or (kind is int and value != int(value)):
        raise UserError(f"{where}: must be a {'whole ' if kind is int else ''}number, not {value}")
    return kind(value)
