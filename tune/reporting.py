"""What every trial is told, and how it reports what it scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray.tune
from ray.tune.result import TIMESTEPS_TOTAL
from ray.tune.search.repeater import TRIAL_INDEX

from tune.definition import Sweep
from tune.fitting import Nodes
from tune.plan import Replicate, Trial

SCORE = "objective"
"""What schedulers and searchers compare: the mean normalised score, or the mean return where there is none."""
STEPS = "report_step"
"""The time that schedulers go by: the steps that evaluations were meant for, which are the same for all trials."""
SETTINGS = "settings"
"""What the reported score was made with."""
REPORTED = (
    "report_step",
    "environment_steps",
    "planner",
    "score",
    "return",
    "scores",
    "returns",
    "seconds",
)
"""What of a report goes into the results."""
VALUES_OF_EPISODES = ("scores", "returns")
"""Those of them that are lists."""


@dataclass(frozen=True)
class TrialContext:
    """What every trial of a sweep is told beside its own settings."""

    sweep: Sweep
    address: str
    """Of the sweep's folder."""
    replicates: tuple[Replicate, ...]
    """Seeds and runs in the order in which a searcher's suggestions are tried with them."""
    nodes: Nodes
    """The cluster's, when the sweep began."""
    keep_copies: bool
    """Whether every report comes with a copy of the run: for a population, and where DIR is no path."""
    trials: dict[str, Trial]
    """Those that are known beforehand, by name."""

    def trial(self, config: Mapping[str, Any], name: str) -> Trial:
        """The trial that Ray Tune calls `name`, with the settings of its configuration of it.

        Nothing but settings is taken from there: who follows the best of a population is given that one's whole
        configuration. A searcher knows settings only too; Tune's `Repeater` numbers their repetitions, one for each of
        the replicates.
        """
        settings = config["trial"]["settings"]
        if TRIAL_INDEX in config:
            return Trial(name, settings, **asdict(self.replicates[config[TRIAL_INDEX]]))
        return replace(self.trials[name], settings=settings)

    def this_trial(self, config: Mapping[str, Any]) -> Trial:
        """The trial that this process is."""
        return self.trial(config, ray.tune.get_context().get_trial_name())


def report(
    trial: Trial,
    row: Mapping[str, Any],
    report_step: int,
    seconds: float,
    checkpoint: ray.tune.Checkpoint | None = None,
) -> None:
    """Report one row of an evaluation, see `evaluate_planners`; environment steps 0 where it names none.

    The trial's settings go along: a population changes them in Ray Tune's configuration before the report is recorded.

    Returns once Ray Tune has taken it; raises SystemExit where it then wants the trial to end.
    """
    mean = row["return_mean"] if row["score_mean"] is None else row["score_mean"]
    values = {
        STEPS: report_step,
        "environment_steps": row.get("environment_steps", 0),
        "planner": row["planner"],
        "score": row["score_mean"],
        "return": row["return_mean"],
        "scores": row["scores"],
        "returns": row["returns"],
        "seconds": seconds,
        SCORE: mean,
        SETTINGS: trial.settings,
        TIMESTEPS_TOTAL: report_step,  # TensorBoard's axis; where 0, reports are counted
    }
    ray.tune.report(values, checkpoint=checkpoint)
