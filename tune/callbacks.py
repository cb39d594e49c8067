"""Where else the reports of a sweep go: TensorBoard by Ray Tune itself, Weights & Biases on request."""

from __future__ import annotations

import os

from ray.tune import Callback

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from tune.definition import Sweep


def logging_callbacks(sweep: Sweep, config: RunConfig) -> list[Callback]:
    """Callbacks for Ray Tune; it writes DIR/tune/<sitting>/<trial>/events.* for TensorBoard without being told.

    Args:
        sweep: its settings `logging.*` win over those of `config`.
        config: of a pretrained run.

    Raises:
        UserError: Weights & Biases is asked for and not installed.
    """
    own = {name: value for name, value in sweep.settings.items() if name.startswith("logging.")}
    logging = with_settings(config, own, "sweep").logging
    if logging.wandb == "off":
        return []
    try:
        import wandb  # noqa: F401  # the integration imports without it and fails later
        from ray.air.integrations.wandb import WandbLoggerCallback
    except ImportError as error:
        raise UserError("logging.wandb needs Weights & Biases: pip install 'm3pc-ray[wandb]'") from error
    os.environ["WANDB_MODE"] = logging.wandb
    excluded = ["scores", "returns"]  # one value an episode; the means are what curves are drawn of
    return [WandbLoggerCallback(project=logging.wandb_project, group=sweep.name, excludes=excluded, log_config=True)]
