"""Trials of a sweep as runs of Weights & Biases; importing this needs the wandb package."""

from __future__ import annotations

from ray.air.integrations.wandb import WandbLoggerCallback
from ray.tune.experiment import Trial as TuneTrial

from tune.plan import Replicate
from tune.reporting import VALUES_OF_EPISODES, TrialContext

TRIED_WITH = ("baseline", *Replicate.__annotations__)
"""What tells trials apart beside their settings."""
SETTINGS = {"silent": True, "console": "off", "x_disable_stats": True}
"""As for the runs themselves, see `m3pc_ray.training.metrics`."""


class WandbTrials(WandbLoggerCallback):
    """Tune's integration, but every trial is one run of Weights & Biases whoever carries it out, and how often.

    Args:
        context: what the trials are told.
        directory: below which files go, in a folder `wandb`; None: the temporary one of Ray Tune.
        project, mode: as for `wandb.init`.
    """

    def __init__(self, context: TrialContext, directory: str | None, project: str, mode: str) -> None:
        # Tune counts a trial's reports from one again when it is taken up; rows of a run have to count up.
        excludes = [*VALUES_OF_EPISODES, "training_iteration"]
        options = {"mode": mode, "dir": directory, "resume": "allow", "settings": SETTINGS}
        super().__init__(project=project, group=context.sweep.name, excludes=excludes, **options)
        self._context = context

    def log_trial_start(self, trial: TuneTrial) -> None:
        """Begin or continue a trial's run; its configuration is Ray Tune's, and what it is tried with."""
        mine = self._context.trial(trial.config, str(trial))
        self.kwargs["config"] = {**trial.config, **{name: getattr(mine, name) for name in TRIED_WITH}}
        self.kwargs["id"] = f"{self._context.sweep.identity}-{trial}"
        super().log_trial_start(trial)
