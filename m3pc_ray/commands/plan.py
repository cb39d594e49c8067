"""`m3pc plan`: look into a planner's decisions, one episode in one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from m3pc_ray.agent import Agent
    from m3pc_ray.evaluation.record_plans import Kept, Recorded
    from m3pc_ray.training.run_folder import RunFolder

MOST_SEED = 2**31 - 1
DEFAULT_EVERY = 10
SUMMARY = "play an episode and look into its decisions: a page with candidates, choice and what then happened"
DESCRIPTION = """\
Plays one episode with a planner and writes a page in which any decision kept can be looked into: the candidates'
actions and predicted states coloured by utility, the sequence chosen, and what then happened. The page is one file
that needs no network; beside it lies the record it was made from, with every candidate (docs/plan_viewer.md).

  m3pc plan --run runs/hopper                                   every 10th decision of an episode
  m3pc plan --run runs/hopper --planner return --steps 100:200  every decision from step 100 to 199
  m3pc plan --run runs/hopper --sample --planner.num_candidates 256
  m3pc plan --record runs/hopper/plans/critic-1000.npz          the page again from its record

The episode is that of `m3pc evaluate --episodes 1` with the same seed, step by step. Ctrl-C ends it early; the page
then shows what was played."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options and those of the planner's settings."""
    from m3pc_ray.configuration import add_config_arguments

    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", metavar="RUN", help="folder of the run")
    source.add_argument("--record", metavar="FILE", help="make the page of this record again; nothing is played")
    parser.add_argument("--planner", choices=["return", "critic"], help="(default: the best that the run has)")
    parser.add_argument("--seed", type=int, default=1000, help="seed of the episode (default: 1000)")
    parser.add_argument("--planner-seed", type=int, default=0, help="seed of the planner's randomness (default: 0)")
    parser.add_argument("--sample", action="store_true", help="draw candidates, as exploration does, not their average")
    parser.add_argument(
        "--every", type=int, metavar="K", help=f"keep every K-th decision (default: {DEFAULT_EVERY}; 1 with --steps)"
    )
    parser.add_argument(
        "--steps", metavar="FROM:TO", help="keep decisions FROM to TO - 1 only, and play no further than their horizon"
    )
    parser.add_argument("--out", metavar="FILE.html", help="the page (default: RUN/plans/PLANNER-SEED.html)")
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="checkpoint to load (default: the newest)")
    parser.add_argument("--device", help="torch device (default: the run's)")
    parser.add_argument("--threads", type=int, metavar="K", help="CPU threads of torch (default: all cores)")
    add_config_arguments(parser, ["planner"])


def run(arguments: argparse.Namespace) -> int:
    """Plays, writes record and page, prints where they are; exit code 130 where the episode was cut by Ctrl-C."""
    from rich.console import Console

    from m3pc_ray.errors import UserError
    from m3pc_ray.report.plans.page import write_page

    console = Console()
    out = None if arguments.out is None else Path(arguments.out).expanduser()
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {out}: the page is HTML; name a file that ends in .html")
    written, interrupted = [], False
    if arguments.record:
        record = Path(arguments.record).expanduser()
    else:
        record, interrupted = _record(arguments, console, out)
        written.append(record)
    page = out or record.with_suffix(".html")
    left_out = write_page(record, page)
    for file in (page, *written):
        console.print(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)", highlight=False, soft_wrap=True)
    if left_out:
        console.print(left_out, highlight=False, soft_wrap=True)
    return 130 if interrupted else 0


def _record(arguments: argparse.Namespace, console: Console, out: Path | None) -> tuple[Path, bool]:
    """The record's file, and whether Ctrl-C cut it short."""
    from m3pc_ray.agent import Agent
    from m3pc_ray.commands._runs import load_for_acting
    from m3pc_ray.configuration import given_overrides
    from m3pc_ray.errors import UserError
    from m3pc_ray.evaluation.record_plans import record_plans

    for name, value in (("--seed", arguments.seed), ("--planner-seed", arguments.planner_seed)):
        if not 0 <= value <= MOST_SEED:
            raise UserError(f"{name} is {value}; it must lie between 0 and {MOST_SEED}")
    kept = _kept(arguments.steps, arguments.every)
    asked = [arguments.planner] if arguments.planner else None
    folder, models, planners = load_for_acting(arguments, given_overrides(arguments), asked)
    agent = Agent.from_models(models, planners[-1], seed=arguments.planner_seed)
    path = (out or folder.path / "plans" / f"{agent.guide}-{arguments.seed}.html").with_suffix(".npz")
    about = {"run": str(folder.path), "checkpoint": _checkpoint(arguments, folder)}
    with console.status("playing") as status:
        recorded = record_plans(
            agent, path, arguments.seed, kept, deterministic=not arguments.sample, about=about, status=status.update
        )
    _say(console, agent, recorded)
    return path, recorded.interrupted


def _kept(steps: str | None, every: int | None) -> Kept:
    """The decisions that --steps and --every ask for."""
    from m3pc_ray.errors import UserError
    from m3pc_ray.evaluation.record_plans import Kept

    first, last = 0, None
    if steps is not None:
        try:
            first, last = (int(word) for word in steps.split(":"))
        except ValueError:
            raise UserError(f"--steps {steps}: write it as FROM:TO, such as 100:200") from None
        if not 0 <= first < last:
            raise UserError(f"--steps {steps}: FROM must be at least 0 and below TO")
    spacing = every if every is not None else DEFAULT_EVERY if steps is None else 1
    if spacing < 1:
        raise UserError(f"--every is {spacing}; at least 1 is needed")
    return Kept(first, last, spacing)


def _checkpoint(arguments: argparse.Namespace, folder: RunFolder) -> int:
    """The step of the checkpoint that was loaded: the newest that is whole, unless another was named."""
    from m3pc_ray.training.checkpoints import checkpoint_defects

    if arguments.checkpoint is not None:
        return int(arguments.checkpoint)
    return max(step for step, defect in checkpoint_defects(folder).items() if defect is None)


def _say(console: Console, agent: Agent, recorded: Recorded) -> None:
    episode, about = recorded.episode, recorded.about
    end = "terminated" if episode.terminated else "time limit" if episode.truncated else "cut"
    score = "" if about["score"] is None else f", score {about['score']:.1f}"
    kept = f"{len(recorded.considered.steps)} decisions kept"
    lines = [f"{len(episode)} steps ({end}), return {about['return']:.0f}{score}; {kept}"]
    lines += [f"m3pc: warning: {warning}" for warning in recorded.warnings]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
