"""`m3pc sweep`: try settings over seeds on Ray Tune, and say what they are worth."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from m3pc_ray.errors import UserError

if TYPE_CHECKING:
    from tune.definition import Sweep
    from tune.folder import SweepFolder
    from tune.results import ResultsFile

SUMMARY = "try settings over several seeds on Ray Tune"
DESCRIPTION = """\
Runs every trial of a sweep file: settings of the planner on a pretrained run (kind evaluate), or whole online runs
(kind finetune). Leaves a folder with all results, a table and figures.

  m3pc sweep --config configs/sweeps/lambda.yaml --run runs/hopper --episodes 10 --out sweeps/lambda
  m3pc sweep --config configs/sweeps/lambda_finetune.yaml --run runs/hopper --out sweeps/online --online.steps 20000
  m3pc resume sweeps/lambda                          (after Ctrl-C or a crash)
  m3pc sweep-report sweeps/lambda                    (table and figures again, from the files)

Any setting can be given for all trials, such as --planner.num_candidates 64. Joins the Ray cluster of RAY_ADDRESS;
without it a local one is started and closed again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from m3pc_ray.configuration import add_config_arguments

    parser.add_argument("--config", required=True, metavar="FILE", help="such as configs/sweeps/lambda.yaml")
    parser.add_argument(
        "--run", action="append", metavar="RUN", help="pretrained run; repeatable: several count as further seeds"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to make, or an address such as s3://...")
    parser.add_argument("--episodes", type=int, help="episodes of every evaluation")
    parser.add_argument("--seeds", metavar="S,S,...", help="seeds instead of the file's, such as 0,1,2")
    parser.add_argument("--dataset", help="data set of the online runs' replay (default: the pretrained run's)")
    parser.add_argument("--trial-cpus", type=float, metavar="C", help="CPU cores of a trial (key trial_cpus)")
    parser.add_argument("--max-concurrent", type=int, metavar="K", help="trials at a time (key max_concurrent)")
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from m3pc_ray.training.run_folder import check_kept
    from tune.folder import SweepFolder
    from tune.sweep import start_sweep

    folder = SweepFolder(arguments.out)
    if folder.path is not None:
        check_kept(folder.path)
    return _conclude(folder, lambda: start_sweep(_definition(arguments), folder))


def resume_sweep(location: str) -> int:
    """Continue a sweep; the exit code of the command.

    Raises:
        UserError: it cannot go on.
        KeyboardInterrupt: Ctrl-C.
    """
    from tune.folder import SweepFolder
    from tune.sweep import resume_sweep

    folder = SweepFolder(location)
    return _conclude(folder, lambda: resume_sweep(folder))


def _definition(arguments: argparse.Namespace) -> Sweep:
    """The file's sweep, with what the command line says on top."""
    from m3pc_ray.configuration import find_config, given_overrides, shipped_configs
    from m3pc_ray.yaml_text import read_yaml
    from tune.sweep_file import load_sweep

    path = find_config(arguments.config, sorted((shipped_configs() / "sweeps").glob("*.yaml")))
    online = read_yaml(path).get("kind") == "finetune"
    episodes = "online.evaluation_episodes" if online else "evaluation.episodes"
    overrides = given_overrides(arguments)
    for name, value in ((episodes, arguments.episodes), ("data.dataset", arguments.dataset)):
        if value is not None:
            overrides[name] = str(value)
    replaced = {
        "runs": arguments.run,
        "seeds": None if arguments.seeds is None else _seeds(arguments.seeds),
        "trial_cpus": arguments.trial_cpus,
        "max_concurrent": arguments.max_concurrent,
    }
    keys = {key: value for key, value in replaced.items() if value is not None}
    return load_sweep(path, overrides, keys)


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds {text}: must be whole numbers with commas between them, such as 0,1,2") from None


def _conclude(folder: SweepFolder, bring_to_its_end: Callable[[], ResultsFile]) -> int:
    """Run, then write and print what the sweep concludes; after Ctrl-C what it has so far is on the disk."""
    from rich.console import Console

    from tune.conclusions.conclude import conclude

    try:
        results = bring_to_its_end()
    except KeyboardInterrupt:
        print(f"the sweep goes on with `m3pc resume {shlex.quote(folder.name)}`", file=sys.stderr)
        raise
    conclude(folder).print(Console())
    failed = {row["trial"]: row["error"] for row in results.rows if row["status"] == "failed"}
    for trial, error in failed.items():
        print(f"m3pc: trial {trial} failed: {error}", file=sys.stderr)
    if failed:
        print(f"m3pc: `m3pc resume {shlex.quote(folder.name)}` tries them again", file=sys.stderr)
    return 1 if failed else 0
