"""One decision of an episode, with what was considered, what came before and what then really happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from m3pc_ray.agent import Agent
from m3pc_ray.environments.actions import to_environment_range
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.errors import UserError

if TYPE_CHECKING:
    from m3pc_ray.planning.plan import PlanDetails

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Moment:
    """A decision at step `timestep` of an episode."""

    timestep: int
    past: FloatArray
    """(past steps + 1, observation_dim), what the planner saw; the last row is the current observation."""
    future: FloatArray
    """(following steps, observation_dim), what was observed after the planned action and the decisions after it."""
    action: FloatArray
    """(action_dim,), the action taken, in (-1, 1)."""
    details: PlanDetails
    """What was considered, for a batch of one."""


def record_moment(agent: Agent, *, timestep: int = 100, seed: int = 1000) -> Moment:
    """Act one episode with the agent and return its decision at `timestep`, or halfway where the episode was shorter.

    Raises UserError for planner `none`, which considers nothing.
    """
    if agent.guide == "none":
        raise UserError("planner none considers no candidates; use return or critic")
    ahead = agent.planner.segment_length
    agent.reset()
    contexts, observations, actions = [], [], []
    with EnvironmentGroup(agent.environment_id, 1, time_limit=agent.time_limit) as group:
        observation = group.reset(0, seed=seed)
        observations.append(observation)
        for step in range(timestep + ahead):
            plan = agent.plan(observation[np.newaxis], step == 0, streams=[seed])
            contexts.append(agent.context())
            actions.append(plan.actions[0])
            transitions = group.step(to_environment_range(plan.actions, agent.action_low, agent.action_high))
            observation = transitions.observations[0]
            observations.append(observation)
            if transitions.done[0]:
                break
    agent.reset()
    at = timestep if timestep < len(actions) - 1 else len(actions) // 2
    details = agent.planner.plan(contexts[at], guide=agent.guide, details=True).details
    assert details is not None
    position = int(contexts[at].positions[0])
    return Moment(
        timestep=at,
        past=contexts[at].observations[0, : position + 1],
        future=np.stack(observations[at + 1 : at + ahead]),
        action=actions[at],
        details=details,
    )
