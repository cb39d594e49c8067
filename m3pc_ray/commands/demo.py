"""`m3pc demo`: the main job from beginning to end on the data set that ships with the package."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

SUMMARY = "pretrain, plan, finetune on Ray and show what came of it, on shipped data"
DESCRIPTION = """\
Pretrains on the shipped Hopper episodes, evaluates without and with planning, finetunes online on Ray, evaluates again,
and ends with a table, a learning curve and a picture of one plan. Running it again starts over.

  m3pc demo
  m3pc demo --out runs/demo --config configs/demo.yaml --online.steps 5000

Leaves two ordinary runs: RUN-pretrained and RUN, the finetuned one. The scores in RUN/summary.json are the table's:
the data set, before finetuning without and with planning (none, return, critic), and after it (finetuned)."""


MADE_BY_DEMO = "made_by_demo"
"""Key of summary.json in the runs that a later demo may replace."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from m3pc_ray.configuration import add_config_arguments

    parser.add_argument("--out", default="runs/demo", metavar="RUN", help="run folder (default: runs/demo)")
    parser.add_argument("--config", default="demo", help="settings (default: configs/demo.yaml)")
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from m3pc_ray.agent import GUIDES, Agent
    from m3pc_ray.commands.finetune import resume_finetune
    from m3pc_ray.configuration import given_overrides, load_config
    from m3pc_ray.errors import UserError
    from m3pc_ray.evaluation.evaluate import evaluate_planners
    from m3pc_ray.evaluation.moment import record_moment
    from m3pc_ray.evaluation.tables import evaluation_bars, score_table
    from m3pc_ray.online.preparation import finetune_config, prepare
    from m3pc_ray.report.demo import demo_table
    from m3pc_ray.report.figures import learning_curve, plan_figure
    from m3pc_ray.training.assemble import load_models
    from m3pc_ray.training.pretraining import Pretraining, load_data
    from m3pc_ray.training.progress import train_with_progress
    from m3pc_ray.training.run_folder import RunFolder
    from m3pc_ray.trajectories.scores import normalised_score

    started = time.monotonic()
    console = Console()
    config = load_config(arguments.config, given_overrides(arguments))
    trajectories = load_data(config)
    dataset = normalised_score(trajectories.returns, trajectories.metadata)
    if dataset is None:
        raise UserError(f"{config.data.dataset}: no reference scores are known, which the demo's table needs")
    if config.pretrain.components != "both":
        raise UserError(f"pretrain.components is {config.pretrain.components}; the demo needs both")
    final_path = Path(arguments.out)
    pretrained_path = final_path.with_name(final_path.name + "-pretrained")
    for path in (pretrained_path, final_path):
        _check_replaceable(path)

    console.rule("1 of 4: pretrain on logged trajectories")
    pretrained = RunFolder.create(pretrained_path, config, "pretrain", overwrite=True)
    pretrained.write_summary({MADE_BY_DEMO: True})
    train_with_progress(Pretraining(pretrained, config, trajectories))

    console.rule("2 of 4: the same episodes without and with planning")
    agent = Agent.from_models(load_models(pretrained), "critic")
    with evaluation_bars(console, GUIDES, config.evaluation.episodes) as bars:
        before = evaluate_planners(agent, GUIDES, config.evaluation, progress=bars.__getitem__)
    console.print(score_table(before))
    scores = {row["planner"]: row["score_mean"] for row in before}
    pretrained.write_summary({"scores": scores})

    console.rule("3 of 4: finetune online on Ray")
    finetuned = prepare(pretrained, str(final_path), finetune_config(pretrained, {}), True)
    finetuned.write_summary({MADE_BY_DEMO: True})
    resume_finetune(finetuned.path)

    console.rule("4 of 4: what came of it")
    agent = Agent.from_models(load_models(finetuned), "critic")
    with evaluation_bars(console, ["critic"], config.evaluation.episodes) as bars:
        (after,) = evaluate_planners(agent, ["critic"], config.evaluation, progress=bars.__getitem__)
    scores |= {"dataset": float(dataset.mean()), "finetuned": after["score_mean"]}
    curve = learning_curve(finetuned, finetuned.path / "learning_curve.png", baselines={"data set": scores["dataset"]})
    plan = plan_figure(record_moment(agent), agent.environment_id, finetuned.path / "plan.png", planner="critic")
    seconds = time.monotonic() - started
    finetuned.write_summary({"scores": scores, "seconds": seconds})
    console.print(demo_table(trajectories.returns, dataset, before, after, finetuned.summary()))
    console.print(f"learning curve: {curve}\none plan:       {plan}\nrun:            {finetuned.path}", highlight=False)
    return 0


def _check_replaceable(path: Path) -> None:
    """Raises UserError where another command's run, or anything else, lies at `path`."""
    from m3pc_ray.errors import UserError
    from m3pc_ray.training.run_folder import RunFolder

    if path.exists() and any(path.iterdir()) and not RunFolder.open(path).summary().get(MADE_BY_DEMO):
        raise UserError(f"{path}: a run that the demo did not make; choose another place with --out")
