"""Copies of an online run as it stands while it goes on: what another trial, or a later sitting, continues from.

A copy is a run folder like any other. Its newest checkpoint is copied first and the replay log after it: a log that is
ahead of the checkpoint is what a crash leaves too, and the updates it owes are done before new steps are taken.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.training.checkpoints import list_checkpoints
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.files import replacing

OWNER_FILE = "trial.json"
"""Which trial a copy was made of."""
LAST_EVALUATION = "last_evaluation.json"
"""The row of the run's last evaluation: a trial that ended before Ray Tune heard of it reports that."""
_REPLAY_FILES = ("log-*.arrow", "incarnations.json", "limiter.json")
_ATTEMPTS = 5
"""Of a copy; the run replaces a checkpoint every few seconds at most, and keeps the one before."""


def copy_run(run: RunFolder, target: Path, owner: str) -> None:
    """Copy what a run needs to go on, complete or not at all; `owner` names the trial.

    Raises:
        UserError: the run has no complete checkpoint, or the copy cannot be written.
    """
    with replacing(target, overwrite=True) as fresh:
        for attempt in range(_ATTEMPTS):
            try:
                _copy(run, fresh, owner)
                return
            except (FileNotFoundError, shutil.Error):  # the run removed an old checkpoint meanwhile
                if attempt == _ATTEMPTS - 1:
                    raise
                shutil.rmtree(fresh, ignore_errors=True)


def _copy(run: RunFolder, target: Path, owner: str) -> None:
    steps = list_checkpoints(run)
    if not steps:
        raise UserError(f"{run.path}: the run has no complete checkpoint to continue from")
    name = f"step-{steps[-1]:08d}"
    shutil.copytree(run.checkpoints_path / name, target / "checkpoints" / name, copy_function=_link)
    (target / "replay").mkdir()
    replay = run.path / "replay"
    for pattern in _REPLAY_FILES:
        for path in sorted(replay.glob(pattern)):
            shutil.copy2(path, target / "replay" / path.name)
    for path in (run.config_path, run.summary_path, run.metrics_path, run.path / LAST_EVALUATION):
        if path.exists():
            shutil.copy2(path, target / path.name)
    (target / OWNER_FILE).write_text(json.dumps({"trial": owner}))


def owner_of(copy: Path) -> str:
    """The trial that a copy was made of; empty where nothing says so."""
    try:
        return str(json.loads((copy / OWNER_FILE).read_text())["trial"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def continue_copy(copy: Path, target: Path, config: RunConfig) -> RunFolder:
    """Make the run `target` go on from a copy, with other settings; what is there is replaced.

    Raises:
        UserError: the copy is no run, or `target` cannot be written.
    """
    RunFolder.open(copy)
    with replacing(target, overwrite=True) as fresh:
        shutil.copytree(copy, fresh)
        (fresh / OWNER_FILE).unlink(missing_ok=True)
    run = RunFolder.open(target)
    if config.planner.noise_std is None:  # measured, where the copied run needed it
        config = with_settings(config, {"planner.noise_std": run.config().planner.noise_std})
    run.write_config(config)
    run.write_summary({"status": "interrupted"})
    return run


def logged_steps(run: Path) -> int:
    """Environment steps in a run's replay log."""
    return sum(fragment.num_steps for fragment in read_log(run / "replay"))


def _link(source: str, target: str) -> str:
    """Checkpoints are never written into again, so their files may be shared; not across file systems."""
    with contextlib.suppress(OSError):
        os.link(source, target)
        return target
    return str(shutil.copy2(source, target))
