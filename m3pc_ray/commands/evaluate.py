"""`m3pc evaluate`: returns and scores of a run, without and with planning."""

from __future__ import annotations

import argparse

SUMMARY = "play episodes with a run's planners and print returns and scores"
DESCRIPTION = """\
Plays the same episodes with each planner and prints raw returns and normalised scores.

  m3pc evaluate --run runs/hopper --planner none --planner return --planner critic --episodes 20
  m3pc evaluate --run runs/hopper --planner critic --planner.num_candidates 256 --json scores.json

With --propose-from another run proposes the actions and --run predicts what they lead to: two specialised models
against one that does both. The units of their common utilities are measured on the data set of --run.

Without --planner, every planner that the run can do. Scores of the newest checkpoint with the run's own planner
settings are also kept in RUN/summary.json, under "scores"."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options and those of the planner's and evaluation's settings."""
    from m3pc_ray.agent import GUIDES
    from m3pc_ray.configuration import add_config_arguments

    parser.add_argument("--run", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--planner",
        action="append",
        choices=GUIDES,
        help="none: the BTM alone; return: M³PC-M; critic: M³PC-Q; repeatable",
    )
    parser.add_argument("--propose-from", metavar="RUN", help="another run on the same data that proposes the actions")
    parser.add_argument("--episodes", type=int, help="episodes a planner (setting evaluation.episodes)")
    parser.add_argument("--seed", type=int, help="seed of the first episode (setting evaluation.seed)")
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="checkpoint to load (default: the newest)")
    parser.add_argument("--device", help="torch device (default: the run's)")
    parser.add_argument("--threads", type=int, metavar="K", help="CPU threads of torch (default: all cores)")
    parser.add_argument("--json", metavar="FILE", help='also write {"rows": [...]}')
    add_config_arguments(parser, ["planner", "evaluation"])


def run(arguments: argparse.Namespace) -> int:
    """Evaluates, prints the table, writes --json and the summary's scores."""
    from rich.console import Console

    from m3pc_ray.agent import Agent
    from m3pc_ray.commands._output import write_rows
    from m3pc_ray.commands._runs import load_for_acting, load_proposer
    from m3pc_ray.configuration import given_overrides
    from m3pc_ray.evaluation.evaluate import evaluate_planners
    from m3pc_ray.evaluation.tables import evaluation_bars, score_table

    overrides = given_overrides(arguments)
    for name, value in (("evaluation.episodes", arguments.episodes), ("evaluation.seed", arguments.seed)):
        if value is not None:
            overrides[name] = str(value)
    folder, models, planners = load_for_acting(arguments, overrides, arguments.planner)
    proposer = None
    if arguments.propose_from:
        models, proposer = load_proposer(arguments.propose_from, models, planners, overrides, arguments.device)
    agent = Agent.from_models(models, planners[0], proposer=proposer)
    console = Console()
    with evaluation_bars(console, planners, models.config.evaluation.episodes) as bars:
        rows = evaluate_planners(agent, planners, models.config.evaluation, progress=bars.__getitem__)
    console.print(score_table(rows))
    if arguments.propose_from:
        console.print(f"actions proposed by {arguments.propose_from}, predictions by {arguments.run}", highlight=False)
        for row in rows:
            row["propose_from"] = str(arguments.propose_from)
    if arguments.json:
        write_rows(arguments.json, rows)
    as_trained = not any(name.startswith("planner.") for name in overrides) and models.config.evaluation.deterministic
    as_trained = as_trained and proposer is None
    if arguments.checkpoint is None and as_trained and rows[0]["score_mean"] is not None:
        folder.write_summary({"scores": {row["planner"]: row["score_mean"] for row in rows}})
    return 0
