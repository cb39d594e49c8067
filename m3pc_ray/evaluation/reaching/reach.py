"""Planners compared on one goal task: episodes, the row of the table of each, and what figures and films need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.environments.observation_names import observation_names, task_name
from m3pc_ray.environments.observed_state import find_observed_state
from m3pc_ray.environments.poses import seconds_per_step
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.reaching.episodes import Progress, run_episodes
from m3pc_ray.evaluation.reaching.outside_data import DataCloud
from m3pc_ray.evaluation.reaching.record import ReachSetting, RecordedEpisode
from m3pc_ray.evaluation.reaching.rows import make_row
from m3pc_ray.goal_agent import GoalAgent
from m3pc_ray.goals.success import WAYPOINT_TOLERANCE
from m3pc_ray.goals.task import Facts, GoalProblem
from m3pc_ray.planning.backward import GoalPlanner
from m3pc_ray.trajectories.episodes import Trajectories

if TYPE_CHECKING:
    from m3pc_ray.training.assemble import Models


@dataclass(frozen=True, eq=False)
class Reached:
    """What a comparison found."""

    problem: GoalProblem
    setting: ReachSetting
    rows: list[dict[str, Any]]
    """One a planner; see `rows.make_row`, and `waypoints` and their source, `decisions`,
    `missed_mean` (waypoints not reached, or not come to), `delay_mean`, and the planner's settings as `backward`."""
    episodes: dict[str, list[RecordedEpisode]]
    """By planner, an episode a seed."""
    cloud: DataCloud
    time_limit: int = 0
    """The environment's, in steps; 0: its own."""


def make_facts(models: Models, trajectories: Trajectories) -> Facts:
    """What a task has to know about a run and its data.

    Raises UserError where the data come from another environment than the run's.
    """
    source = trajectories.metadata
    if task_name(source.environment_id) != task_name(models.environment_id):
        raise UserError(f"{source.name} comes from {source.environment_id}; the run acts in {models.environment_id}")
    if trajectories.observation_dim != models.model.observation_dim:
        raise UserError(
            f"{source.name} has observations of size {trajectories.observation_dim}; the run was "
            f"trained on {models.model.observation_dim}"
        )
    with EnvironmentGroup(models.environment_id, 1, time_limit=models.time_limit) as group:
        seconds = seconds_per_step(group.environments[0])
    return Facts(
        environment_id=models.environment_id,
        dimensions=observation_names(models.environment_id, models.model.observation_dim),
        seconds_per_step=seconds,
        trajectories=trajectories,
        std=np.asarray(models.statistics.states_std, dtype=np.float32),
        time_limit=models.time_limit,
    )


def compare(
    models: Models,
    facts: Facts,
    problem: GoalProblem,
    planners: Sequence[GoalPlanner],
    seeds: Sequence[int],
    progress: Callable[[GoalPlanner], Progress] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Reached:
    """Plays an episode a seed with each planner and measures it. Raises UserError without any seed.

    `about`: what else each row should say of where it comes from, such as the run and the task's settings.
    """
    if not seeds:
        raise UserError("no episode to play; at least 1 is needed")
    setting = ReachSetting(
        task=problem.name,
        environment=facts.environment_id,
        dimensions=facts.dimensions,
        std=facts.std,
        dt=facts.seconds_per_step,
        key_dimension=problem.key_dimension,
        plotted_dimensions=problem.plotted_dimensions,
        success=problem.success.describe(),
        tolerance=WAYPOINT_TOLERANCE,
        waypoints=problem.waypoints.states,
        plane=problem.plane,
    )
    # What the success cannot be asked, such as too high a frequency, is said before anything is played.
    problem.success.details(facts.start()[np.newaxis], False, facts.seconds_per_step)
    cloud = DataCloud.fit(facts.trajectories, models.statistics, seed=0)
    agent = GoalAgent(models, problem.waypoints)
    rows: list[dict[str, Any]] = []
    episodes: dict[str, list[RecordedEpisode]] = {}
    with EnvironmentGroup(models.environment_id, len(seeds), time_limit=models.time_limit) as group:
        has_track = _has_track(group)
        for planner in planners:
            agent.planner = planner
            follow = progress(planner) if progress is not None else None
            played = run_episodes(agent, problem, group, seeds, has_track=has_track, progress=follow)
            row = make_row(planner, played, setting, problem.success, cloud)
            row |= {
                "waypoints": len(problem.waypoints),
                "waypoints_source": problem.waypoints.source,
                "missed_mean": float((agent.schedule.missed + agent.schedule.remaining).mean()),
                "delay_mean": float(agent.schedule.delays.mean()),
                "delays": agent.schedule.delays.tolist(),
                "decisions": sum(len(episode.reached) - 1 for episode in played),
                "backward": asdict(agent.settings),
                **(about or {}),
            }
            rows.append(row)
            episodes[planner] = played
    return Reached(problem, setting, rows, episodes, cloud, models.time_limit)


def _has_track(group: EnvironmentGroup) -> bool:
    try:
        return find_observed_state(group.environments[0]).hidden_positions > 0
    except UserError:
        return False  # then nothing can be drawn either, and that is said where it is asked for
