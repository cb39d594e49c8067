"""`m3pc resume RUN`: continue whatever was interrupted there.

    m3pc resume runs/hopper
    m3pc resume sweeps/lambda

Pretraining continues bit for bit from the newest complete checkpoint, online finetuning from its checkpoint and replay
log; of a sweep, trials that have ended are not run again. With --max-minutes the number of steps follows the clock, and
so does the end. The settings are the run's own (RUN/config.yaml), or the sweep's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from m3pc_ray.errors import UserError

SUMMARY = "continue an interrupted pretraining run, finetuning run or sweep"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN alone: everything else is in the run."""
    parser.add_argument("run", metavar="RUN", help="folder of the run or sweep to continue")


def run(arguments: argparse.Namespace) -> int:
    """Hands over to what made the run."""
    from m3pc_ray.training.run_folder import RunFolder

    if _is_sweep(arguments.run):
        from m3pc_ray.commands.sweep import resume_sweep

        return resume_sweep(arguments.run)
    folder = RunFolder.open(arguments.run)
    kind = folder.kind()
    if folder.summary().get("status") == "finished":
        print(f"{arguments.run}: finished already, nothing to resume")
        return 0
    if kind == "finetune":
        from m3pc_ray.commands.finetune import resume_finetune

        return resume_finetune(folder.path)
    if kind == "pretrain":
        from m3pc_ray.training.pretraining import Pretraining, load_data
        from m3pc_ray.training.progress import train_with_progress

        with folder.exclusive():
            return train_with_progress(Pretraining.resume(folder, load_data(folder.config())))
    raise UserError(f"{folder.summary_path}: kind: must be pretrain or finetune, not {kind or 'nothing'}")


def _is_sweep(location: str) -> bool:
    """Whether `m3pc sweep` made it; runs are always paths, and need no Ray to be known as such."""
    if "://" not in location:
        return (Path(location).expanduser() / "sweep.yaml").is_file()
    from tune.folder import is_sweep

    return is_sweep(location)
