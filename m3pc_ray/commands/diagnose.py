"""`m3pc diagnose`: why planning helps, or does not."""

from __future__ import annotations

import argparse

SUMMARY = "find out why planning helps or does not: prediction errors, ranking of candidates, the softmax"
DESCRIPTION = """\
Visits states by acting and executes some of each planner's candidates in the real simulator from exactly there,
followed by the BTM alone. Prints whether the planner's utility ranks them as their real returns do, what one planned
decision gains, how wrong the predicted states and rewards were, and how sharp the softmax is. With --dataset also the
prediction errors per test-time mask: on the run's held-out episodes if it is the run's data set, else on all of it.

  m3pc diagnose --run runs/hopper --dataset data.hdf5 --states 20 --json diagnosis.json
  m3pc diagnose --run runs/hopper --planner critic --planner.utility_sharpness_critic 0.3

Reading the table, per planner, means over the states, ± standard error:
  rank correlation        of utility with the real return within a state: 1 knows the best candidate, 0 is noise
  ... rewards             of the predicted with the real reward of the planned steps: the model's share
  ... critic              of min(Q1, Q2) of the first action with the real return: the critic alone
  ... true model          of the utility over the real states and rewards: what a perfect model would reach
  ... ceiling             between two executions with a hundredth of noise: what can be foreseen at all
  gain best utility       real return of the candidate it likes best, less the candidates' mean; weighted: of P
  gain possible           of the best candidate in hindsight, less the candidates' mean
  gain planned            of the planned action less the BTM's own, the BTM following both
  utility spread          standard deviation within a state; sharpness x spread says how far P departs from a mean
  states error n          of the predicted state n steps ahead; states change n: of guessing that nothing changes

Only for environments simulated by MuJoCo."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options and those of the planner's settings."""
    from m3pc_ray.agent import GUIDES
    from m3pc_ray.configuration import add_config_arguments

    parser.add_argument("--run", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--dataset", metavar="REF", help="data set for the prediction errors per mask")
    parser.add_argument("--planner", action="append", choices=[g for g in GUIDES if g != "none"], help="repeatable")
    parser.add_argument("--states", type=int, default=20, help="states visited (default: 20)")
    parser.add_argument("--candidates", type=int, default=16, help="candidates executed from each (default: 16)")
    parser.add_argument("--rollout-steps", type=int, default=200, help="steps of the BTM after them (default: 200)")
    parser.add_argument(
        "--visit", choices=GUIDES, default="none", help="planner that visits the states (default: none)"
    )
    parser.add_argument("--seed", type=int, default=1000, help="seed of the episodes visited (default: 1000)")
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="checkpoint to load (default: the newest)")
    parser.add_argument("--device", help="torch device (default: the run's)")
    parser.add_argument("--threads", type=int, metavar="K", help="CPU threads of torch (default: all cores)")
    parser.add_argument("--json", metavar="FILE", help='also write {"rows": [...]}')
    add_config_arguments(parser, ["planner"])


def run(arguments: argparse.Namespace) -> int:
    """Diagnoses, prints the tables, writes --json."""
    from rich.console import Console

    from m3pc_ray.agent import Agent
    from m3pc_ray.commands._output import write_rows
    from m3pc_ray.commands._runs import load_for_acting
    from m3pc_ray.configuration import given_overrides
    from m3pc_ray.errors import UserError
    from m3pc_ray.evaluation.diagnostics import DiagnosticsConfig, diagnose_planners, mask_errors
    from m3pc_ray.evaluation.tables import diagnosis_tables
    from m3pc_ray.trajectories.resolve import load

    for name, value, least in (
        ("--states", arguments.states, 1),
        ("--candidates", arguments.candidates, 2),
        ("--rollout-steps", arguments.rollout_steps, 0),
    ):
        if value < least:
            raise UserError(f"{name} is {value}; at least {least} is needed")
    _, models, planners = load_for_acting(arguments, given_overrides(arguments), arguments.planner)
    rows = []
    if arguments.dataset:
        data = models.config.data
        rows += mask_errors(models, load(arguments.dataset, data.environment, data.folder))
    config = DiagnosticsConfig(
        arguments.states, arguments.candidates, arguments.rollout_steps, arguments.seed, arguments.visit
    )
    console = Console()
    with console.status("playing candidates in the simulator"):
        guides = [planner for planner in planners if planner != "none"]
        rows += diagnose_planners(Agent.from_models(models, guides[0]), guides, config)
    for table in diagnosis_tables(rows):
        console.print(table)
    if arguments.json:
        write_rows(arguments.json, rows)
    return 0
