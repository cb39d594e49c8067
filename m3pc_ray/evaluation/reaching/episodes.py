"""Episodes on the way to goals: the same resets for every planner, environments stepped together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from m3pc_ray.environments.actions import to_environment_range
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.environments.poses import current_positions
from m3pc_ray.evaluation.reaching.record import RecordedEpisode
from m3pc_ray.goal_agent import GoalAgent
from m3pc_ray.goals.task import GoalProblem

Progress = Callable[[int, int], None]
"""Called after every step: steps of the longest episode so far, and the most there can be."""


def run_episodes(
    agent: GoalAgent,
    problem: GoalProblem,
    group: EnvironmentGroup,
    seeds: Sequence[int],
    *,
    has_track: bool = False,
    progress: Progress | None = None,
) -> list[RecordedEpisode]:
    """One episode a seed, with the agent's planner; at most as many as the group has environments.

    An episode goes on for `problem.episode_steps`, and after that as long as waypoints delayed by waiting are still to
    come, or until the task or its time limit ends it. With `has_track` the simulator's first position, the place along
    the track that observations leave out, is recorded too.

    Goals that drift, or that follow from where an episode begins, are recorded where they were at the step they are
    planned for; those of steps after an early end stay where they started from.
    """
    agent.reset()
    count, rows = len(seeds), np.arange(len(seeds))
    places: list[list[float]] = [[] for _ in seeds]

    def note_places(these: npt.NDArray[np.int64]) -> None:
        for row in these:
            places[row].append(float(current_positions(group.environments[row])[0]) if has_track else float("nan"))

    observations = np.stack([group.reset(row, seed=seed) for row, seed in enumerate(seeds)])
    note_places(rows)
    reached = [[observation.copy()] for observation in observations]
    wanted = np.repeat(problem.wanted[np.newaxis], count, axis=0)
    moving = problem.waypoints.moving is not None
    due = {int(step): index for index, step in enumerate(problem.waypoints.steps)} if moving else {}
    terminated = np.zeros(count, dtype=np.bool_)
    starts = np.ones(count, dtype=np.bool_)
    waiting = agent.settings.wait_steps * len(problem.waypoints) if agent.settings.missed == "wait" else 0
    for step in range(problem.episode_steps + waiting):
        plan = agent.plan(observations[rows], starts[rows], rows=rows, streams=np.asarray(seeds)[rows])
        if step in due:
            for row in rows:
                wanted[row, step] = agent.schedule.states(int(row))[due[step]]
        transitions = group.step(to_environment_range(plan.actions, agent.action_low, agent.action_high), rows)
        observations[rows] = transitions.observations
        starts[:] = False
        for row, observation in zip(rows, transitions.observations, strict=True):
            reached[row].append(observation)
        note_places(rows)
        terminated[rows] = transitions.terminated
        # The schedule hears of every observation; of one that no decision follows, from here.
        past_plan = step + 1 >= problem.episode_steps
        over = transitions.done | np.array([past_plan and _ends(agent, int(row), reached[row][-1]) for row in rows])
        for row in rows[over]:
            agent.schedule.advance(int(row), reached[row][-1])
        if moving:
            for row in rows[over]:
                if step + 1 in due:
                    wanted[row, step + 1] = agent.schedule.states(int(row))[due[step + 1]]
        rows = rows[~over]
        if progress is not None:
            progress(step + 1, max(step + 1, problem.episode_steps))
        if not len(rows):
            break
    return [
        RecordedEpisode(
            seed,
            np.stack(states),
            _padded(wanted[row], len(states)),
            bool(terminated[row]),
            np.array(places[row]) if has_track else None,
        )
        for row, (seed, states) in enumerate(zip(seeds, reached, strict=True))
    ]


def _ends(agent: GoalAgent, row: int, observation: npt.NDArray[np.float32]) -> bool:
    """Whether this observation, at the planned end or after it, leaves no waypoint that waiting has delayed."""
    return agent.settings.missed == "move_on" or agent.schedule.remaining_after(row, observation) == 0


def _padded(wanted: npt.NDArray[np.float32], length: int) -> npt.NDArray[np.float32]:
    """(at least `length`, observation_dim): nothing is wanted after the plan."""
    missing = max(0, length - len(wanted))
    return np.pad(wanted, ((0, missing), (0, 0)), constant_values=np.nan)
