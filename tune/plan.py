"""The trials of a sweep, checked against the runs they start from before any of them begins."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from m3pc_ray.agent import check_guide
from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.online.preparation import finetune_config
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.run_folder import RunFolder
from tune.definition import Sweep, trial_settings
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
    baseline: bool = False
    checkpoint: str = ""
    """Where it goes on from, relative to the sweep's folder, unless DIR/trials has something newer; empty: nowhere."""

    def row(self) -> dict[str, Any]:
        """What its rows in the results have in common."""
        described = asdict(self)
        settings = described.pop("settings")
        del described["checkpoint"], described["name"]
        return {"trial": self.name, **described, **settings}


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
    environment: str
    has_critic: bool


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
    environment = state["models"]["metadata"]["environment_id"]
    return Source(folder, folder.config(), environment, state["critic_updates"] > 0)


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
    settings: list[tuple[Settings, bool]] = [({}, True)] if sweep.baseline else []
    if sweep.searcher == "enumerate":
        settings += [(combination, False) for combination in sweep.combinations()]
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
    overrides = trial_settings(sweep, settings, seed, baseline)
    if sweep.kind == "evaluate":
        config = with_settings(source.config, overrides, "sweep")
        check_guide(config.planner.guide, source.has_critic)
        return config
    config = finetune_config(source.folder, overrides)
    check_guide(config.online.guide, source.has_critic)
    online = config.online
    for step in sweep.report_steps:
        if not 0 < step <= online.steps or (
            step < online.steps and (online.evaluate_every == 0 or step % online.evaluate_every)
        ):
            raise UserError(
                f"report_steps: {step} is no multiple of online.evaluate_every = {online.evaluate_every} up to "
                f"online.steps = {online.steps}"
            )
    return config
