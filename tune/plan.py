"""The trials of a sweep, checked against the runs they start from before any of them begins."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from m3pc_ray.agent import check_guide
from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.online.preparation import finetune_config
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.resolve import absolute
from tune.definition import SEED_STRIDE, Sweep, trial_settings
from tune.space import Settings


@dataclass(frozen=True)
class Trial:
    """One trial."""

    name: str
    """Unique in the sweep; of those that are known beforehand a number such as 00007."""
    settings: Settings
    """Of the varied settings; empty for the baseline."""
    seed: int
    run: str
    """Pretrained run it is made with, absolute."""
    environment: str
    dataset: str
    """Unless the varied settings name another."""
    baseline: bool = False
    checkpoint: str = ""
    """Where it goes on from, relative to the sweep's folder, unless DIR/trials has something newer; empty: nowhere."""

    def row(self) -> dict[str, Any]:
        """What its rows in the results have in common."""
        dataset = self.settings.get("data.dataset", self.dataset)
        where = {"seed": self.seed, "run": self.run, "environment": self.environment, "dataset": dataset}
        return {"trial": self.name, "baseline": self.baseline, **where, **self.settings}


@dataclass(frozen=True)
class Replicate:
    """What a setting is tried with: a seed and a pretrained run."""

    seed: int
    run: str
    """Absolute path."""
    environment: str
    dataset: str


@dataclass(frozen=True)
class Source:
    """A pretrained run that trials start from."""

    folder: RunFolder
    config: RunConfig
    models: dict[str, Any]
    """`Models.description` of it."""
    has_critic: bool

    @property
    def environment(self) -> str:
        """Gymnasium id."""
        return str(self.models["metadata"]["environment_id"])


def open_sources(sweep: Sweep) -> list[Source]:
    """The pretrained runs of a sweep.

    Raises:
        UserError: there are none, one is no run or has no complete checkpoint.
    """
    if not sweep.runs:
        raise UserError(
            "a sweep needs a pretrained run; give --run RUN, several times for several, or `runs:` in its file"
        )
    return [open_source(run) for run in dict.fromkeys(str(Path(run).expanduser().resolve()) for run in sweep.runs)]


def open_source(path: str) -> Source:
    """A pretrained run. Raises UserError where there is none, or it has no complete checkpoint."""
    folder = RunFolder.open(path)
    _, state = load_checkpoint(folder)
    return Source(folder, folder.config(), state["models"], state["critic_updates"] > 0)


def replicates(sweep: Sweep, sources: list[Source]) -> list[Replicate]:
    """Every seed with every run, in the order in which they are tried."""
    return [
        Replicate(
            seed,
            str(source.folder.path),
            source.environment,
            sweep.settings.get("data.dataset", source.config.data.dataset),
        )
        for seed in sweep.seeds
        for source in sources
    ]


def plan_trials(sweep: Sweep, sources: list[Source]) -> list[Trial]:
    """Every trial that is known beforehand; with searcher `optuna` those of the baseline alone.

    Seeds come last in turn: a sweep that is interrupted has tried all settings equally often, or nearly so.

    Raises:
        UserError: a trial cannot be made: a setting does not go with a run, or with another setting.
    """
    settings: list[tuple[Settings, bool]] = [] if sweep.baseline is None else [({}, True)]
    if sweep.searcher == "enumerate":
        settings += [(combination, False) for combination in sweep.combinations()]
    if sweep.scheduler.name != "none" and len({source.environment for source in sources}) > 1:
        raise UserError(f"scheduler: {sweep.scheduler.name} compares trials; all runs must be of one environment")
    for values, baseline in settings:
        for source in sources:
            trial_config(sweep, source, values, sweep.seeds[0], baseline)
    found = [(replicate, values, baseline) for replicate in replicates(sweep, sources) for values, baseline in settings]
    return [
        Trial(f"{number:05d}", values, baseline=baseline, **asdict(replicate))
        for number, (replicate, values, baseline) in enumerate(found)
    ]


def trial_config(sweep: Sweep, source: Source, settings: Settings, seed: int, baseline: bool = False) -> RunConfig:
    """The complete configuration of a trial.

    Raises:
        UserError: it is none, or the run cannot do what it asks for.
    """
    overrides = trial_settings(sweep, source.config, settings, seed, baseline)
    if sweep.kind == "evaluate":
        config = with_settings(source.config, overrides, "sweep")
        check_guide(config.planner.guide, source.has_critic)
        if len(sweep.seeds) > 1 and config.evaluation.episodes > SEED_STRIDE:
            raise UserError(f"evaluation.episodes: at most {SEED_STRIDE} where there are several seeds")
        return config
    config = finetune_config(source.folder, overrides)
    check_guide(config.online.guide, source.has_critic)
    online = config.online
    for step in sweep.report_steps:
        between = 0 < step < online.steps and online.evaluate_every > 0 and step % online.evaluate_every == 0
        if not between and step != online.steps:
            raise UserError(
                f"report_steps: {step} is no multiple of online.evaluate_every = {online.evaluate_every} up to "
                f"online.steps = {online.steps}"
            )
    return config


def configuration_of(sweep: Sweep, source: Source, trial: Trial) -> RunConfig:
    """The complete configuration of a trial; raises UserError as `trial_config`."""
    return trial_config(sweep, source, trial.settings, trial.seed, trial.baseline)


def with_absolute_paths(sweep: Sweep) -> Sweep:
    """A sweep whose data sets and data folder are found from every working folder."""
    space = {
        name: replace(axis, values=tuple(_absolute(name, value) for value in axis.values))
        for name, axis in sweep.space.items()
    }
    baseline = None if sweep.baseline is None else _all_absolute(sweep.baseline)
    return replace(sweep, settings=_all_absolute(sweep.settings), space=space, baseline=baseline)


def _all_absolute(settings: Settings) -> Settings:
    return {name: _absolute(name, value) for name, value in settings.items()}


def _absolute(name: str, value: Any) -> Any:
    return absolute(value) if name in ("data.dataset", "data.folder") else value
