"""`m3pc explain`: why an online run took an action."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m3pc_ray.training.run_folder import RunFolder

SUMMARY = "compute a recorded decision of an online run again: candidates, utilities, choice"
DESCRIPTION = """\
Takes one decision from the replay log of a run that was finetuned with --record-decisions and computes it again with
the weights that made it: candidates ranked by utility, their probabilities, the one drawn, the path predicted for it
against what the episode then had, and whether utilities and choice are those recorded.

  m3pc explain runs/hopper-online                                what can be explained
  m3pc explain runs/hopper-online --episode 0/0/3 --step 12      worker 0, incarnation 0, episode 3
  m3pc explain runs/hopper-online --episode 17 --step 12         the 18th episode of the log
  m3pc explain runs/hopper-online --episode 17 --step 12 --weights 2000     what would these weights have done?

The same weights are those a checkpoint keeps: the ones it was made of, if planners started from them, and the ones
they served when it was made. More of them: online.keep_checkpoints, online.checkpoint_minutes.
Exit code 1: with the same weights something else came out, as on another kind of processor."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of the finetuned run")
    parser.add_argument(
        "--episode", metavar="E", help="WORKER/INCARNATION/EPISODE, or the place of the episode in the log, from 0"
    )
    parser.add_argument("--step", type=int, metavar="K", help="step of the episode, from 0")
    parser.add_argument("--weights", type=int, metavar="STEP", help="weights of this checkpoint, the same or not")
    parser.add_argument("--nearest", action="store_true", help="the nearest version kept, where the same is not")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="candidates shown (default: 10)")
    parser.add_argument("--device", help="torch device (default: the one that decided)")
    parser.add_argument(
        "--json", metavar="FILE", help='also write {"rows": [...]}, every candidate, and the planned path'
    )


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from m3pc_ray.errors import UserError
    from m3pc_ray.online.explaining.decision_log import find_decision
    from m3pc_ray.online.explaining.explain import choose_weights, explain
    from m3pc_ray.online.explaining.tables import candidate_rows, explanation_tables, facts, path_rows, verdict
    from m3pc_ray.training.run_folder import RunFolder

    if arguments.top < 1:
        raise UserError(f"--top is {arguments.top}; at least 1 is needed")
    folder = RunFolder.open(arguments.run)
    if arguments.episode is None and arguments.step is None:
        return _overview(folder)
    if arguments.episode is None or arguments.step is None:
        raise UserError("--episode and --step name a decision together")
    decision = find_decision(folder, arguments.episode, arguments.step)
    weights = choose_weights(folder, decision, arguments.weights, arguments.nearest)
    explanation = explain(folder, decision, weights, arguments.device)
    console = Console()
    words, _, result = verdict(explanation).rpartition("\n")
    console.print(words, highlight=False, soft_wrap=True)
    for table in explanation_tables(explanation, arguments.top):
        console.print(table)
    console.print(result, highlight=False, soft_wrap=True)
    if arguments.json:
        from m3pc_ray.commands._output import write_rows

        write_rows(
            arguments.json, candidate_rows(explanation), decision=facts(explanation), planned=path_rows(explanation)
        )
    return 1 if explanation.weights.exact and not explanation.agrees else 0


def _overview(folder: RunFolder) -> int:
    """Says which decisions can be computed again with the same weights."""
    from rich.console import Console

    from m3pc_ray.errors import UserError
    from m3pc_ray.online.explaining.explain import explainable
    from m3pc_ray.online.explaining.tables import explainable_table

    entries = explainable(folder)
    if not entries:
        raise UserError(
            f"{folder.path}: no decision was recorded whose weights a checkpoint keeps; finetune with "
            "--record-decisions"
        )
    Console().print(explainable_table(entries))
    return 0
