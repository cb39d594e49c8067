"""`m3pc figures`: PNGs of a run."""

from __future__ import annotations

import argparse

SUMMARY = "draw a run's curves and one of its plans as PNG files"
DESCRIPTION = """\
Draws what the run has: training.png (losses, held-out errors, critic), learning_curve.png (evaluations of finetuning),
operation.png (memory of every role, speed and waiting of a run on Ray) and plan.png (one decision: the candidates'
predicted states against what then happened).

  m3pc figures --run runs/hopper --out runs/hopper/figures"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options and those of the planner's settings."""
    from m3pc_ray.configuration import add_config_arguments

    parser.add_argument("--run", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--out", metavar="FOLDER", help="where to (default: RUN/figures)")
    parser.add_argument(
        "--planner", choices=["return", "critic"], help="planner of plan.png (default: the best it has)"
    )
    parser.add_argument("--timestep", type=int, default=100, help="decision shown in plan.png (default: 100)")
    parser.add_argument("--seed", type=int, default=1000, help="seed of its episode (default: 1000)")
    parser.add_argument("--checkpoint", type=int, metavar="STEP", help="checkpoint to load (default: the newest)")
    parser.add_argument("--device", help="torch device (default: the run's)")
    parser.add_argument("--threads", type=int, metavar="K", help="CPU threads of torch (default: all cores)")
    add_config_arguments(parser, ["planner"])


def run(arguments: argparse.Namespace) -> int:
    """Draws and prints the paths."""
    from pathlib import Path

    from m3pc_ray.agent import Agent
    from m3pc_ray.commands._runs import load_for_acting
    from m3pc_ray.configuration import given_overrides
    from m3pc_ray.errors import UserError
    from m3pc_ray.evaluation.moment import record_moment
    from m3pc_ray.report.figures import learning_curve, plan_figure, training_curves
    from m3pc_ray.report.metrics import read_metrics
    from m3pc_ray.report.operation import operation_figure

    if arguments.timestep < 0:
        raise UserError(f"--timestep is {arguments.timestep}; it counts from 0")
    asked = [arguments.planner] if arguments.planner else None
    folder, models, planners = load_for_acting(arguments, given_overrides(arguments), asked)
    target = Path(arguments.out).expanduser() if arguments.out else folder.path / "figures"
    metrics = read_metrics(folder)
    if metrics.names("btm") or metrics.names("critic"):
        print(training_curves(folder, target / "training.png"))
    if metrics.names("evaluation"):
        dataset = folder.summary()["scores"].get("dataset")
        baselines = {"data set": dataset} if dataset is not None else {}
        print(learning_curve(folder, target / "learning_curve.png", baselines=baselines))
    if any(name.startswith("memory_") for name in metrics.names("online")):
        print(operation_figure(folder, target / "operation.png"))
    agent = Agent.from_models(models, planners[-1])
    moment = record_moment(agent, timestep=arguments.timestep, seed=arguments.seed)
    print(plan_figure(moment, agent.environment_id, target / "plan.png", planner=agent.guide))
    return 0
