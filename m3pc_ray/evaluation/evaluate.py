"""Evaluation: the same episodes for every planner, environments stepped together, raw returns and normalised scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from m3pc_ray.agent import GUIDES, Agent
from m3pc_ray.config import EvaluationConfig, Guide
from m3pc_ray.environments.actions import to_environment_range
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.environments.manipulation.tasks import TASKS
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.statistics import describe
from m3pc_ray.trajectories.scores import normalised_score

if TYPE_CHECKING:
    from m3pc_ray.planning.plan import Plan
    from m3pc_ray.trajectories.episodes import DatasetMetadata

Progress = Callable[[int, int, float], None]
"""Called after every step of the group: episodes finished, environment steps taken, mean return of the finished."""


class Acting(Protocol):
    """What playing episodes asks of an agent: `agent.Agent`, or `baselines.feedforward_agent.FeedforwardAgent`."""

    action_low: npt.NDArray[np.float32]
    action_high: npt.NDArray[np.float32]

    def reset(self) -> None:
        """Forget every episode."""

    def plan(
        self,
        observations: npt.ArrayLike,
        episode_start: bool | npt.ArrayLike | None = None,
        deterministic: bool = True,
        *,
        rows: Sequence[int] | npt.NDArray[np.int64] | None = None,
        streams: npt.ArrayLike | None = None,
    ) -> Plan:
        """Actions in (-1, 1), see `Agent.plan`."""


@runtime_checkable
class HearsRewards(Protocol):
    """An agent whose next action depends on what the last one earned, as one with a return to reach does."""

    def hear(self, rewards: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> None:
        """What the actions just planned for `rows` earned, (rows,)."""


@dataclass(frozen=True)
class Episodes:
    """What one planner earned; entry i is the episode that was reset with seed + i."""

    returns: npt.NDArray[np.float64]
    """(episodes,) undiscounted sums of rewards."""
    lengths: npt.NDArray[np.int64]
    """(episodes,) steps."""
    planning_seconds: float
    """Wall time spent inside the agent."""
    seconds: float
    """Wall time, the simulators included."""
    planning_cpu_seconds: float = 0.0
    """Processor time spent inside the agent, of all threads: what other work on the machine hardly changes."""

    @property
    def decisions(self) -> int:
        return int(self.lengths.sum())


def run_episodes(
    agent: Acting, group: EnvironmentGroup, config: EvaluationConfig, progress: Progress | None = None
) -> Episodes:
    """Play `config.episodes` episodes with an agent.

    Episode i resets with `config.seed + i` and draws from random stream `config.seed + i`. A row whose episode ended
    takes the next unplayed one; when none is left it drops out, and the batch of planning requests shrinks.
    """
    if config.episodes < 1:
        raise UserError(f"evaluation.episodes is {config.episodes}; at least 1 is needed")
    agent.reset()
    width = min(len(group), config.episodes)
    returns = np.zeros(config.episodes, dtype=np.float64)
    lengths = np.zeros(config.episodes, dtype=np.int64)
    episode_of_row = np.arange(width)
    rows = np.arange(width)
    observations = np.stack([group.reset(row, seed=config.seed + row) for row in range(width)])  # (width, obs)
    starts = np.ones(width, dtype=np.bool_)
    upcoming, finished, planning_seconds, started = width, 0, 0.0, time.perf_counter()
    planning_cpu_seconds = 0.0
    listener = agent if isinstance(agent, HearsRewards) else None
    while len(rows):
        before, cpu_before = time.perf_counter(), time.process_time()
        plan = agent.plan(
            observations[rows],
            starts[rows],
            config.deterministic,
            rows=rows,
            streams=config.seed + episode_of_row[rows],
        )
        planning_seconds += time.perf_counter() - before
        planning_cpu_seconds += time.process_time() - cpu_before
        actions = to_environment_range(plan.actions, agent.action_low, agent.action_high)
        transitions = group.step(actions, rows)
        if listener is not None:
            listener.hear(transitions.rewards, rows)
        observations[rows] = transitions.observations
        returns[episode_of_row[rows]] += transitions.rewards
        lengths[episode_of_row[rows]] += 1
        starts[rows] = False
        over = np.zeros(width, dtype=np.bool_)
        for row in rows[transitions.done]:
            finished += 1
            if upcoming < config.episodes:
                observations[row] = group.reset(int(row), seed=config.seed + upcoming)
                starts[row] = True
                episode_of_row[row] = upcoming
                upcoming += 1
            else:
                over[row] = True
        rows = rows[~over[rows]]
        if progress is not None:
            done = np.ones(config.episodes, dtype=np.bool_)
            done[episode_of_row[rows]] = False
            done[upcoming:] = False
            progress(finished, int(lengths.sum()), float(returns[done].mean()) if done.any() else float("nan"))
    return Episodes(returns, lengths, planning_seconds, time.perf_counter() - started, planning_cpu_seconds)


def evaluate_planners(
    agent: Agent,
    planners: Sequence[Guide],
    config: EvaluationConfig,
    *,
    progress: Callable[[Guide], Progress] | None = None,
) -> list[dict[str, Any]]:
    """One row of plain keys per planner, over the same seeds.

    Keys: planner, episodes, seed, deterministic, return_* and score_* (mean, sem, std, min, max and the 95 % bootstrap
    interval of the mean as low and high; score_* are None without reference scores), in manipulation tasks success_*
    (the fraction of episodes that were solved), returns and scores (one value an episode), length_mean, decisions,
    decisions_per_s (of the time spent planning, simulators excluded), planning_cpu_ms (processor time of that, a
    decision), seconds, environment and the planner's settings.
    Raises UserError for an unknown planner and for `critic` without a critic, before anything is played.
    """
    if not planners:
        raise UserError(f"no planner to evaluate; name at least one of {', '.join(GUIDES)}")
    before = agent.guide
    for guide in planners:
        agent.guide = guide
    rows = []
    try:
        count = max(1, min(config.parallel_environments, config.episodes))
        with EnvironmentGroup(agent.environment_id, count, time_limit=agent.time_limit) as group:
            check_environment(agent, group)
            for guide in planners:
                agent.guide = guide
                episodes = run_episodes(agent, group, config, progress(guide) if progress is not None else None)
                rows.append(make_row(agent, episodes, config))
    finally:
        agent.guide = before
        agent.reset()
    return rows


def make_row(agent: Agent, episodes: Episodes, config: EvaluationConfig) -> dict[str, Any]:
    """The row of `evaluate_planners` for one planner's episodes."""
    reference = agent.metadata if agent.metadata is not None else agent.environment_id
    settings = agent.planner.config
    row: dict[str, Any] = {"planner": agent.guide} | earned(episodes.returns, reference)
    row |= {
        "length_mean": float(episodes.lengths.mean()),
        "decisions": episodes.decisions,
        "decisions_per_s": episodes.decisions / max(episodes.planning_seconds, 1e-9),
        "planning_cpu_ms": 1000.0 * episodes.planning_cpu_seconds / max(episodes.decisions, 1),
        "seconds": episodes.seconds,
        "seed": config.seed,
        "deterministic": config.deterministic,
        "environment": agent.environment_id,
        "context_length": settings.context_length,
    }
    if agent.guide != "none":
        sharpness = {"return": settings.utility_sharpness_return, "critic": settings.utility_sharpness_critic}
        unit = {"return": settings.utility_unit_return, "critic": settings.utility_unit_critic}
        row |= {
            "num_candidates": settings.num_candidates,
            "horizon": settings.horizon,
            "td_lambda": agent.planner.td_lambda(agent.guide),
            "utility_sharpness": sharpness[agent.guide],
            "utility_unit": unit[agent.guide],
        }
    return row


def earned(returns: npt.NDArray[np.float64], reference: DatasetMetadata | str) -> dict[str, Any]:
    """What a row says of episodes' returns (episodes,): how many, return_* and score_*, and one value an episode.

    `reference` has the reference scores, or is an environment's name; score_* and scores are None without any.
    Manipulation tasks, whose only reward is that of success, have success_* too.
    """
    scores = normalised_score(returns, reference)
    environment_id = reference if isinstance(reference, str) else reference.environment_id
    return {
        "episodes": len(returns),
        **describe("return", returns),
        **describe("score", scores),
        **(describe("success", returns > 0.0) if environment_id in TASKS else {}),
        "returns": returns.tolist(),
        "scores": None if scores is None else scores.tolist(),
    }


def check_environment(agent: Agent, group: EnvironmentGroup) -> None:
    """Raise UserError when the environment's observations or actions are not the ones the agent was trained on."""
    spec = group.spec
    for name, trained, found in (
        ("observation", agent.observation_dim, spec.observation_dim),
        ("action", agent.action_dim, spec.action_dim),
    ):
        if trained != found:
            raise UserError(
                f"environment {spec.environment_id} has {name} size {found}; the run was trained on {trained}"
            )
