"""Where else the reports of a sweep go: files of Ray Tune, TensorBoard, Weights & Biases on request."""

from __future__ import annotations

import os

from ray.tune import Callback
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback

from m3pc_ray.config import LoggingConfig, RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from tune.definition import LOGGING, Sweep
from tune.folder import SweepFolder
from tune.reporting import TrialContext


def logging_callbacks(context: TrialContext, config: RunConfig, folder: SweepFolder) -> list[Callback]:
    """Callbacks for Ray Tune, all that it is to have of this kind.

    Args:
        context: what the trials are told; the sweep's settings `logging.*` win over those of `config`.
        config: of a pretrained run.
        folder: of the sweep. TensorBoard's files are DIR/tune/<sitting>/<trial>/events.*, those of Weights & Biases
            are below DIR/wandb.

    Raises:
        UserError: Weights & Biases is asked for and not installed, or is to write files where DIR is no path.
    """
    logging = logging_settings(context.sweep, config)
    check_logging(logging, folder)
    callbacks: list[Callback] = [CSVLoggerCallback(), JsonLoggerCallback()]
    if logging.tensorboard:
        callbacks.append(TBXLoggerCallback())
    if logging.wandb != "off":
        callbacks.append(_wandb_callback(context, logging, folder))
    return callbacks


def logging_settings(sweep: Sweep, config: RunConfig) -> LoggingConfig:
    """Settings `logging.*` of a sweep whose trials start from a run of this configuration."""
    own = {name: value for name, value in sweep.settings.items() if name.startswith(LOGGING)}
    return with_settings(config, own, "sweep").logging


def check_logging(logging: LoggingConfig, folder: SweepFolder) -> None:
    """Raises UserError where the settings cannot be followed with this folder or this installation."""
    if logging.wandb == "off":
        return
    try:
        import wandb  # noqa: F401  # the integration imports without it and fails later
    except ImportError as error:
        raise UserError(
            f"logging.wandb: {logging.wandb} needs the wandb package: pip install 'm3pc-ray[wandb]', or set it to off"
        ) from error
    if logging.wandb == "offline" and folder.path is None:
        raise UserError(
            f"logging.wandb: offline writes into the sweep's folder, and {folder.name} is no path; set it to off or "
            "online"
        )


def _wandb_callback(context: TrialContext, logging: LoggingConfig, folder: SweepFolder) -> Callback:
    """One Weights & Biases run a trial, in a group of the sweep's name; a later sitting continues it."""
    from tune.wandb_trials import WandbTrials

    if logging.wandb == "offline":
        os.environ["WANDB_MODE"] = "offline"  # else Tune's integration asks this process for an account
    return WandbTrials(
        context,
        directory=None if folder.path is None else str(folder.path),
        project=logging.wandb_project,
        mode=logging.wandb,
    )
