"""`m3pc finetune`: a pretrained run goes on learning from what its own planner collects."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m3pc_ray.online.progress import OnlineProgress
    from m3pc_ray.training.interrupt import StopRequest
    from m3pc_ray.training.run_folder import RunFolder

SUMMARY = "finetune a run online, on Ray or in one process"
DESCRIPTION = """\
Collects experience with the planner and keeps training the trajectory model and the critic on it. Leaves a run folder
that every other command takes like a pretrained one.

  m3pc finetune --run runs/hopper --out runs/hopper-online --rollout-workers 2 --steps 20000
  m3pc finetune --run runs/hopper --out runs/hopper-online --steps 20000 --online.guide return
  m3pc finetune --run runs/hopper --out runs/hopper-online --config configs/online/workers_64.yaml
  m3pc finetune --run runs/hopper --out runs/hopper-serial --steps 2000 --serial     (one process, reproducible)

Joins the Ray cluster of RAY_ADDRESS; without it a local one is started and closed again.
Ctrl-C leaves a checkpoint; `m3pc resume RUN2` continues there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from m3pc_ray.configuration import add_config_arguments

    parser.add_argument("--run", required=True, metavar="RUN", help="pretrained run to start from")
    parser.add_argument("--out", required=True, metavar="RUN2", help="run folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run at --out")
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings to change; options win over it")
    parser.add_argument("--dataset", help="data set of the replay's offline part (default: the run's own)")
    parser.add_argument("--steps", type=int, help="environment steps, met exactly (setting online.steps)")
    parser.add_argument("--rollout-workers", type=int, help="rollout workers (setting online.rollout_workers)")
    parser.add_argument("--seed", type=int, help="seed of everything random (setting seed)")
    parser.add_argument("--threads", type=int, help="CPU threads of the learner (setting online.threads)")
    parser.add_argument(
        "--record-decisions",
        action="store_true",
        help="keep what `m3pc explain` needs with every step (setting online.record_decisions)",
    )
    parser.add_argument("--serial", action="store_true", help="all roles in this process, same seed same bits, no Ray")
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from m3pc_ray.configuration import given_overrides, given_settings
    from m3pc_ray.online.preparation import finetune_config, prepare
    from m3pc_ray.training.run_folder import RunFolder

    overrides = {**(given_settings(arguments.config) if arguments.config else {}), **given_overrides(arguments)}
    for name, value in (
        ("data.dataset", arguments.dataset),
        ("online.steps", arguments.steps),
        ("online.rollout_workers", arguments.rollout_workers),
        ("online.threads", arguments.threads),
        ("online.record_decisions", "true" if arguments.record_decisions else None),
        ("seed", arguments.seed),
    ):
        if value is not None:
            overrides[name] = str(value)
    source = RunFolder.open(arguments.run)
    config = finetune_config(source, overrides)
    folder = prepare(source, arguments.out, config, arguments.overwrite)
    folder.write_summary({"serial": arguments.serial})
    return resume_finetune(folder.path)


def resume_finetune(path: str | Path, quiet: bool = False) -> int:
    """Take a finetuning run from its newest checkpoint and replay log to its end; the exit code of the command.

    Raises:
        UserError: another process trains this run, RAY_ADDRESS names no cluster that answers, the disk is full, or
            training diverged.
        KeyboardInterrupt: Ctrl-C; a checkpoint was written first.
    """
    from m3pc_ray.online.progress import OnlineProgress
    from m3pc_ray.training.interrupt import StopRequest
    from m3pc_ray.training.run_folder import RunFolder

    run = RunFolder.open(path)
    config, serial = run.config(), bool(run.summary().get("serial", False))
    with run.exclusive():
        run.write_summary({"status": "running"})
        try:
            with OnlineProgress(run, config, quiet) as progress, StopRequest() as stop:
                if serial:
                    _run_serially(run, progress, stop)
                else:
                    from actors.run_on_ray import run_on_ray

                    run_on_ray(run, progress, stop)
        except KeyboardInterrupt:
            run.write_summary({"status": "interrupted"})
            raise
        except BaseException:
            run.note_failure()
            raise
    summary = run.summary()
    if not quiet:
        print(
            f"run: {path}  {summary['environment_steps']:,} steps, {summary['btm_updates']:,} model and "
            f"{summary['critic_updates']:,} critic updates in {summary['seconds']:.0f} s"
        )
    return 0


def _run_serially(run: RunFolder, progress: OnlineProgress, stop: StopRequest) -> None:
    from m3pc_ray.online.loop import SerialRun

    state = "failed"
    try:
        SerialRun(run, progress, stop).train()
        state = "finished"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        progress.last_live(state)
