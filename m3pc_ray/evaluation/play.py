"""One episode, step by step, with somebody looking on: for records, films and pictures of what a planner does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from m3pc_ray.agent import Agent
from m3pc_ray.environments.actions import FloatArray, to_environment_range
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.evaluation.branches import concatenate_contexts
from m3pc_ray.planning.context import ContextWindow, PlanningContext

Before = Callable[[int, "gymnasium.Env[Any, Any]"], None]
"""Called with the step and the environment, before every decision and once after the last."""
After = Callable[[int, float], bool | None]
"""Called after every step with the steps taken and the return so far; True ends the episode there."""


@dataclass(frozen=True, eq=False)
class PlayedEpisode:
    """What happened; K steps."""

    seed: int
    """Of the reset and of the stream of the decisions' randomness."""
    observations: FloatArray
    """(K + 1, observation_dim), raw units, the last one after the last action."""
    actions: FloatArray
    """(K, action_dim), played, in (-1, 1)."""
    rewards: FloatArray
    """(K,)"""
    terminated: bool
    """Whether the task itself ended it."""
    truncated: bool
    """Whether the time limit did; neither where who looked on ended it."""

    def __len__(self) -> int:
        return len(self.actions)


def play_episode(
    agent: Agent,
    group: EnvironmentGroup,
    seed: int,
    *,
    deterministic: bool = True,
    before: Before | None = None,
    after: After | None = None,
) -> PlayedEpisode:
    """Play an episode in a group of one environment, as `m3pc evaluate --episodes 1 --seed SEED` does: the same bits.

    `before` may look at the environment but must not change it; the agent has forgotten the episode afterwards.
    """
    agent.reset()
    observation = group.reset(0, seed=seed)
    observations: list[FloatArray] = [observation]
    actions: list[FloatArray] = []
    rewards: list[float] = []
    total, terminated, truncated, stopped = 0.0, False, False, False
    while not (terminated or truncated or stopped):
        if before is not None:
            before(len(actions), group.environments[0])
        plan = agent.plan(observation[np.newaxis], not actions, deterministic, streams=[seed])
        transitions = group.step(to_environment_range(plan.actions, agent.action_low, agent.action_high))
        observation = transitions.observations[0]
        observations.append(observation)
        actions.append(plan.actions[0])
        rewards.append(float(transitions.rewards[0]))
        terminated, truncated = bool(transitions.terminated[0]), bool(transitions.truncated[0])
        total += float(transitions.rewards[0])
        stopped = after is not None and bool(after(len(actions), total))
    if before is not None:
        before(len(actions), group.environments[0])
    agent.reset()
    return PlayedEpisode(
        seed,
        np.stack(observations),
        np.stack(actions),
        np.asarray(rewards, dtype=np.float32),
        terminated,
        truncated,
    )


def contexts_of(agent: Agent, episode: PlayedEpisode) -> PlanningContext:
    """What the planner was given at each of the K decisions: K rows, the same bits."""
    shape = agent.observation_dim, agent.action_dim, agent.planner.config.context_length
    window = ContextWindow(1, *shape)
    rows = []
    for step in range(len(episode)):
        if step:
            window.append(0, episode.actions[step - 1], episode.observations[step])
        else:
            window.reset(0, episode.observations[0])
        rows.append(window.context(np.array([[agent.seed, episode.seed, step]], dtype=np.uint64)))
    return concatenate_contexts(rows)
