"""`m3pc capabilities`: one model in all its roles, measured."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from m3pc_ray.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from m3pc_ray.evaluation.capabilities.measure import CapabilitiesConfig, Measured

SUMMARY = "measure every role of a run's model: dynamics, rewards, paths, cloning, asked returns, calibration"
DESCRIPTION = """\
Asks the same weights through every mask and compares with plain baselines: forward dynamics 1 to 7 steps ahead (against
a trained MLP and against no change), inverse dynamics (MLP), rewards and returns (MLP, the mean), paths (straight
lines), behaviour cloning and return conditioning (played, beside an MLP clone), returns asked for against achieved, and
the calibration of the action distribution. Errors are of the run's held-out episodes.

  m3pc capabilities --run runs/hopper --quick
  m3pc capabilities --run runs/hopper --json capabilities.json --out capabilities

The MLPs learn from the run's training episodes, with as many gradient steps as the model had (--quick: at most 300),
and are kept in the folder --out, so that a second call does not train them again. The folder also gets rows.json,
dynamics.png, returns.png, calibration.png and summary.png (docs/capabilities.md)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--run", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--dataset", metavar="REF", help="measure on these episodes; of the run's own data, the held-out ones (default)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer windows, episodes and MLP steps: under two minutes")
    parser.add_argument("--episodes", type=int, help="episodes of each role played (default: 20, quick 4)")
    parser.add_argument("--seed", type=int, default=1000, help="of windows, MLPs and the first episode (default: 1000)")
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="checkpoint to load (default: the newest)")
    parser.add_argument("--device", help="torch device (default: the run's)")
    parser.add_argument("--threads", type=int, metavar="K", help="CPU threads of torch (default: all cores, quick 1)")
    parser.add_argument("--out", metavar="FOLDER", help="figures, rows, trained MLPs (default: RUN/capabilities)")
    parser.add_argument("--json", metavar="FILE", help='also write {"rows": [...]}')


def run(arguments: argparse.Namespace) -> int:
    """Measures, prints the tables, writes rows and figures."""
    from rich.console import Console

    from m3pc_ray.commands._output import check_json, write_rows
    from m3pc_ray.evaluation.capabilities.measure import measure
    from m3pc_ray.evaluation.capabilities.tables import capability_tables, remarks, watching
    from m3pc_ray.report.capabilities import draw_capabilities

    config = _config(arguments)
    check_json(arguments.json)
    console = Console()
    with watching(console) as watch:
        watch("reading the run and its data", 0.0)
        measured, out, more = _measured(arguments)
        rows = measure(measured, config, watch)
    for target in filter(None, (out / "rows.json", arguments.json)):
        write_rows(target, rows, **more)
    for table in capability_tables(rows):
        console.print(table)
    for remark in remarks(rows):
        console.print(remark, highlight=False, soft_wrap=True)
    for path in draw_capabilities(rows, out, str(more["run"])):
        console.print(str(path), highlight=False, soft_wrap=True)
    return 0


def _config(arguments: argparse.Namespace) -> CapabilitiesConfig:
    from m3pc_ray.evaluation.capabilities.measure import QUICK, CapabilitiesConfig

    config = dataclasses.replace(QUICK if arguments.quick else CapabilitiesConfig(), seed=arguments.seed)
    if arguments.seed < 0:
        raise UserError(f"--seed is {arguments.seed}; it counts from 0")
    if arguments.episodes is not None:
        if arguments.episodes < 1:
            raise UserError(f"--episodes is {arguments.episodes}; at least 1 is needed")
        config = dataclasses.replace(config, episodes=arguments.episodes)
    return config


def _measured(arguments: argparse.Namespace) -> tuple[Measured, Path, dict[str, object]]:
    """What to measure, the folder for results, and what is written beside the rows."""
    from pathlib import Path

    import torch

    from m3pc_ray.commands._runs import load_for_acting
    from m3pc_ray.evaluation.capabilities.measure import Measured
    from m3pc_ray.evaluation.held_out import check_sizes, is_data_of_run, split_of_run
    from m3pc_ray.training.checkpoints import load_checkpoint
    from m3pc_ray.training.pretraining import load_data
    from m3pc_ray.trajectories.resolve import load

    if arguments.quick and arguments.threads is None:
        # Two threads wait for each other on busy cores: 132 s, with one 82 (two other processes on two cores).
        arguments.threads = 1
    folder, models, _ = load_for_acting(arguments, {}, ["none"])
    updates = int(load_checkpoint(folder, arguments.checkpoint)[1]["btm_updates"])
    if updates < 1:
        raise UserError(f"{folder.path}: its trajectory model is untrained; there is nothing to measure")
    data = models.config.data
    given = load(arguments.dataset, data.environment, data.folder) if arguments.dataset else None
    own = given if given is not None and is_data_of_run(models, given) else load_data(models.config)
    learned, held_out = split_of_run(models, own)
    if given is not None and given is not own:
        check_sizes(models, given)
        held_out = given
    out = Path(arguments.out).expanduser() if arguments.out else folder.path / "capabilities"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # known before the MLPs are trained, not after
        raise UserError(f"--out {out}: cannot be made: {error.strerror}") from error
    facts: dict[str, object] = {
        "run": folder.path.name,
        "environment": models.environment_id,
        "learned_from": own.metadata.name,
        "measured_on": held_out.metadata.name,
        "held_out_episodes": held_out.num_episodes,
        "quick": bool(arguments.quick),
        "threads": torch.get_num_threads(),
        "run_seconds": folder.summary().get("seconds"),
        "run_kind": folder.summary().get("kind"),
    }
    return Measured(models, updates, learned, held_out, out / "baselines"), out, facts
