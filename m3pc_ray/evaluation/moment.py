"""One decision of an episode, with what was considered, what came before and what then really happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from m3pc_ray.agent import Agent
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.play import contexts_of, play_episode

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
    with EnvironmentGroup(agent.environment_id, 1, time_limit=agent.time_limit) as group:
        episode = play_episode(agent, group, seed, after=lambda steps, _: steps == timestep + ahead)
    at = timestep if timestep < len(episode) - 1 else len(episode) // 2
    context = contexts_of(agent, episode).select([at])
    details = agent.planner.plan(context, guide=agent.guide, details=True).details
    assert details is not None
    return Moment(
        timestep=at,
        past=context.observations[0, : int(context.positions[0]) + 1],
        future=episode.observations[at + 1 : at + ahead],
        action=episode.actions[at],
        details=details,
    )
