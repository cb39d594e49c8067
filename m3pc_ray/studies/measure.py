"""What a study measures of a cell: errors per mask on held-out episodes, scores of planners, behaviour cloning."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console

from m3pc_ray.agent import Agent
from m3pc_ray.baselines.behaviour_cloning import train_behaviour_cloning
from m3pc_ray.baselines.feedforward_agent import FeedforwardAgent
from m3pc_ray.config import Guide
from m3pc_ray.configuration import with_settings
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.diagnostics import mask_errors
from m3pc_ray.evaluation.evaluate import earned, evaluate_planners, run_episodes
from m3pc_ray.evaluation.tables import evaluation_bars
from m3pc_ray.studies.definition import Cell
from m3pc_ray.studies.dynamics import shared_dynamics_errors
from m3pc_ray.studies.records import CLONING, DYNAMICS, MASKS, SCORE, StudyFolder
from m3pc_ray.studies.train import data_of
from m3pc_ray.training.assemble import Models, load_models
from m3pc_ray.training.data_parts import data_parts
from m3pc_ray.training.pairing import paired_models
from m3pc_ray.trajectories.statistics import compute_statistics

OF_THE_PROPOSER = ("action_error/", "negative_log_likelihood", "entropy")
"""Beginnings of the errors that say how well actions are proposed; with two models they are the proposing one's."""


def has_critic(cell: Cell) -> bool:
    """Whether the cell can plan with a critic: its runs train one, or take one from where they start."""
    roles = cell.trained()
    trained = roles.get("critic", roles["predicts"])
    if trained.variant.start_from and trained.config().pretrain.components == "btm":
        trained = trained.neighbour(trained.variant.start_from)
    return trained.config().pretrain.components != "btm"


def wanted_measures(cell: Cell) -> list[str]:
    """What the study's columns and planners ask of a cell, without what it cannot do."""
    columns, guides = cell.study.columns, cell.study.planners
    others = ("score/", "return/", "planning/", "training/", "dynamics/")
    wanted = [MASKS] if any(not column.startswith(others) for column in columns) else []
    wanted += [DYNAMICS] if any(column.startswith("dynamics/") for column in columns) else []
    wanted += [SCORE + guide for guide in guides if guide != "critic" or has_critic(cell)]
    wanted += [CLONING] if any(column.endswith("/mlp_bc") for column in columns) else []
    return wanted or [MASKS]  # a cell that is asked for nothing but its costs is trained and recorded too


def missing_measures(folder: StudyFolder, cell: Cell) -> list[str]:
    """Those of them that are not in the cell's record."""
    return [measure for measure in wanted_measures(cell) if folder.find(cell, measure) is None]


def measure_cell(folder: StudyFolder, cell: Cell, console: Console, device: str | None, threads: int) -> None:
    """Measures what is missing and keeps each as soon as it is there; the cell's runs are finished.

    Raises UserError where its runs do not go together, or were trained on other data than the study names.
    """
    measures = missing_measures(folder, cell)
    if not measures:
        return
    console.rule(f"measuring {cell.name}", align="left")
    torch.set_num_threads(threads)
    models, proposes = load_cell(folder, cell, device)
    if MASKS in measures:
        folder.add(cell, MASKS, _mask_errors(cell, models, proposes))
    if DYNAMICS in measures:
        trajectories = data_of(cell.trained()["predicts"].config())
        held_out = data_parts(trajectories, models.config).validation
        folder.add(cell, DYNAMICS, shared_dynamics_errors(models, trajectories, held_out))
    guides: list[Guide] = [guide for guide in cell.study.planners if SCORE + guide in measures]
    if guides:
        _play(folder, cell, models, proposes, guides, console)
    if CLONING in measures:
        folder.add(cell, CLONING, _clone(cell, models, console))


def load_cell(folder: StudyFolder, cell: Cell, device: str | None = None) -> tuple[Models, Models | None]:
    """(models that predict, with the cell's planner settings and critic; those that propose, None: the same).

    Where the parts come from several runs, the units of their common utilities are measured as pretraining does.
    """
    roles = cell.trained()
    loaded = {role: load_models(folder.run(trained), device=device) for role, trained in roles.items()}
    for role, trained in roles.items():
        _check_data(folder, trained, loaded[role])
    models, proposes = loaded["predicts"], loaded.get("proposes")
    if "critic" in loaded:
        models = _with_critic(models, loaded["critic"], cell)
    settings = cell.planner_settings()
    if len(roles) > 1:
        models = replace(models, config=with_settings(models.config, settings, cell.name))
        transitions = data_parts(data_of(models.config), models.config).transitions
        models = paired_models(models, proposes, transitions)
    evaluation = cell.study.evaluation
    config = replace(with_settings(models.config, settings, cell.name), evaluation=evaluation)
    return replace(models, config=config), proposes


def _with_critic(models: Models, other: Models, cell: Cell) -> Models:
    for name in ("states_mean", "states_std"):
        if models.statistics.to_dict()[name] != other.statistics.to_dict()[name]:
            raise UserError(f"{cell.name}: critic: {cell.variant.critic} was trained on other data than this variant")
    config = replace(models.config, critic=other.config.critic)
    return replace(models, config=config, critic=other.critic, critic_updates=other.critic_updates)


def _shown(row: dict[str, Any]) -> str:
    kind = "return" if row["score_mean"] is None else "score"
    return f"{kind} {row[f'{kind}_mean']:.1f} ± {row[f'{kind}_sem']:.1f} in {row['seconds']:.0f} s"


def _check_data(folder: StudyFolder, cell: Cell, models: Models) -> None:
    """Raises UserError where a run has learnt from other episodes than its settings and the study's data set say."""
    described = data_parts(data_of(cell.config()), models.config).described
    data = models.config.data
    expected = compute_statistics(described, data.return_scale, models.time_limit, data.smallest_state_std)
    if expected.to_dict() != models.statistics.to_dict():
        raise UserError(
            f"{folder.run(cell).path}: its statistics are not those of the episodes that its settings name in "
            f"{cell.config().data.dataset}: the file has changed since, or an older m3pc trained it; train it again"
        )


def _mask_errors(cell: Cell, models: Models, proposes: Models | None) -> dict[str, float]:
    trajectories = data_of(cell.trained()["predicts"].config())
    errors = {row["name"]: row["value"] for row in mask_errors(models, trajectories)}
    if proposes is not None:
        config = replace(proposes.config, planner=models.config.planner)
        of_proposer = mask_errors(replace(proposes, config=config), trajectories)
        errors |= {row["name"]: row["value"] for row in of_proposer if row["name"].startswith(OF_THE_PROPOSER)}
    return errors


def _play(
    folder: StudyFolder,
    cell: Cell,
    models: Models,
    proposes: Models | None,
    guides: Sequence[Guide],
    console: Console,
) -> None:
    """A row of `evaluate_planners` a guide, each kept once its episodes are played."""
    evaluation = models.config.evaluation
    agent = Agent.from_models(models, guides[0], proposer=proposes)
    with evaluation_bars(console, guides, evaluation.episodes) as bars:
        for guide in guides:
            (row,) = evaluate_planners(agent, [guide], evaluation, progress=bars.__getitem__)
            folder.add(cell, SCORE + guide, row)
            console.print(f"{cell.name}, planner {guide}: {_shown(row)}", highlight=False)


def _clone(cell: Cell, models: Models, console: Console) -> dict[str, Any]:
    """Behaviour cloning on the episodes that the cell's run learnt from, with the same evaluation episodes."""
    cloning, evaluation = cell.study.mlp_bc, models.config.evaluation
    assert cloning is not None  # the study file has it where a column asks for it
    trajectories = data_of(cell.trained()["predicts"].config())
    learnt = data_parts(trajectories, models.config).train.with_actions()
    device = next(models.model.parameters()).device
    started = time.monotonic()
    with console.status(f"{cell.name}: behaviour cloning on {learnt.num_episodes:,} episodes"):
        policy = train_behaviour_cloning(
            learnt, steps=cloning.steps, batch_size=cloning.batch_size, seed=cell.seed, device=device
        )
        trained = time.monotonic() - started
        agent = FeedforwardAgent(policy, models.metadata, models.time_limit)
        count = min(evaluation.parallel_environments, evaluation.episodes)
        with EnvironmentGroup(agent.environment_id, count, time_limit=agent.time_limit) as group:
            episodes = run_episodes(agent, group, replace(evaluation, deterministic=True))
    row = earned(episodes.returns, agent.metadata)
    row |= {"training_seconds": trained, "seconds": time.monotonic() - started}
    console.print(f"{cell.name}, behaviour cloning: {_shown(row)}", highlight=False)
    return row
