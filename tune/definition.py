"""A sweep as its file describes it: what varies, over which seeds, what every trial is.

    name: lambda
    kind: evaluate                       # planner settings of pretrained runs; `finetune`: whole online runs
    space:
      planner.td_lambda: [0, 0.3, 0.6]   # see `tune.space`
    seeds: [0, 1, 2]                     # averaged over
    settings: {evaluation.episodes: 10}  # the same for every trial
    baseline: {label: no planning, settings: {planner.guide: none}}

`Sweep`'s fields are all keys there are; `tune.sweep_file` reads them. Settings are named by their dotted path
everywhere.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

from m3pc_ray.config import RunConfig
from tune.space import Axis, Settings, combinations

Kind = Literal["evaluate", "finetune"]
SchedulerName = Literal["none", "asha", "pbt"]
SearcherName = Literal["enumerate", "optuna"]
LOGGING = "logging."
"""Settings that change no score: the same for every trial."""
EVALUATE_SETTINGS = ("planner.", "evaluation.", "device", LOGGING)
"""Beginnings of settings that need no training."""
ROLES = ("online.rollout_workers", "online.worker_cpus", "online.planners", "online.threads")
"""Settings that decide what a trial reserves."""
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
    baseline: Settings | None = None
    """Settings of a trial that is compared with all, on top of `settings`; None: there is no such trial."""
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
    identity: str = ""
    """Tells this sweep from others that were in the same place; made when it begins."""

    @property
    def varied(self) -> list[str]:
        """Names of the settings that vary, in the file's order."""
        return list(self.space)

    def combinations(self) -> list[Settings]:
        """All settings to be tried, where they are known beforehand (searcher `enumerate`)."""
        return combinations(self.space, self.samples, self.sampling_seed)

    def described(self) -> dict[str, Any]:
        """As its file has it, complete: `tune.sweep_file.read_sweep` gives an equal sweep."""
        tree: dict[str, Any] = {"name": self.name, "kind": self.kind}
        tree["space"] = {name: axis.described() for name, axis in self.space.items()}
        tree["seeds"], tree["settings"] = list(self.seeds), dict(self.settings)
        if self.baseline is not None:
            tree["baseline"] = {"label": self.baseline_label, "settings": dict(self.baseline)}
        tree["scheduler"] = dataclasses.asdict(self.scheduler)
        tree["report_steps"], tree["runs"] = list(self.report_steps), list(self.runs)
        if self.identity:
            tree["identity"] = self.identity
        for name in PLAIN:
            tree[name] = getattr(self, name)
        return tree


PLAIN: dict[str, type] = {
    "samples": int,
    "sampling_seed": int,
    "searcher": str,
    "trial_cpus": float,
    "trial_gpus": int,
    "max_concurrent": int,
    "max_failures": int,
}
"""Keys with a single value, and its type."""


def trial_settings(sweep: Sweep, config: RunConfig, settings: Settings, seed: int, baseline: bool = False) -> Settings:
    """Everything in which a trial differs from its pretrained run.

    Args:
        config: of the pretrained run.
        settings: of the varied settings; none for the baseline.
    """
    merged = {**sweep.settings, **((sweep.baseline or {}) if baseline else settings)}
    if sweep.kind == "finetune":
        shared = {"data.share_memory": sys.platform == "linux"}  # trials on one machine hold the data set once
        return {**shared, **merged, "seed": seed}
    first = merged.get("evaluation.seed", config.evaluation.seed)
    return {**merged, "evaluation.seed": first + SEED_STRIDE * seed}
