"""A trial that plays episodes with a pretrained run: no training, and no data set is loaded."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch

from m3pc_ray.agent import Agent
from m3pc_ray.evaluation.evaluate import evaluate_planners
from m3pc_ray.training.assemble import load_models
from tune.plan import configuration_of, open_source
from tune.reporting import TrialContext, report


def evaluate_trial(config: dict[str, Any], context: TrialContext) -> None:
    """Play the episodes of one setting and one seed, and report them."""
    trial, started = context.this_trial(config), time.monotonic()
    source = open_source(trial.run)
    settings = configuration_of(context.sweep, source, trial)
    torch.set_num_threads(max(1, int(context.sweep.trial_cpus)))
    models = load_models(source.folder, device=settings.device if context.sweep.trial_gpus else "cpu")
    agent = Agent.from_models(replace(models, config=settings))
    (row,) = evaluate_planners(agent, [settings.planner.guide], settings.evaluation)
    report(trial, row, report_step=0, seconds=time.monotonic() - started)
