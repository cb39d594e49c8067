"""`m3pc resume RUN`: continue whatever was interrupted there.

    m3pc resume runs/hopper

Pretraining continues bit for bit from the newest complete checkpoint, online finetuning from its checkpoint and replay
log. The settings are the run's own (RUN/config.yaml).
"""

from __future__ import annotations

import argparse
import importlib

from m3pc_ray.errors import UserError

SUMMARY = "continue an interrupted pretraining or finetuning run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN alone: everything else is in the run."""
    parser.add_argument("run", metavar="RUN", help="folder of the run to continue")


def run(arguments: argparse.Namespace) -> int:
    """Hands over to `resume(run)` of the command that the run was made by."""
    from m3pc_ray.training.run_folder import RunFolder

    folder = RunFolder.open(arguments.run)
    kind = folder.kind()
    if kind not in ("pretrain", "finetune"):
        raise UserError(f"{folder.summary_path}: kind: must be pretrain or finetune, not {kind or 'nothing'}")
    if folder.summary().get("status") == "finished":
        print(f"{arguments.run}: finished already, nothing to resume")
        return 0
    code: int = importlib.import_module(f"m3pc_ray.commands.{kind}").resume(folder)
    return code
