"""What a planner considered at some decisions of an episode it has played, computed again from what it was given.

Nothing is kept while the episode is played, so that looking cannot change it. Decisions are counter-based: the same
context gives the same candidates, utilities and action again, and `action_difference` says whether it did.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from m3pc_ray.agent import Agent
from m3pc_ray.environments.actions import FloatArray
from m3pc_ray.environments.simulator import SimulatorState
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.branches import VisitedStates, run_branches
from m3pc_ray.evaluation.play import PlayedEpisode, contexts_of
from m3pc_ray.planning.plan import PlanDetails

LARGEST_BYTES = 2**31
"""Of all candidates of all kept decisions; a page is made of a small part of them."""


@dataclass(frozen=True, eq=False)
class Considered:
    """S decisions, N candidates, H steps planned at most; NaN beyond a decision's own horizon. Actions in (-1, 1)."""

    steps: npt.NDArray[np.int64]
    """(S,) of the episode, rising."""
    horizons: npt.NDArray[np.int64]
    """(S,) T - t: actions a candidate has."""
    candidates: FloatArray
    """(S, N, H, action_dim)"""
    states: FloatArray
    """(S, N, H - 1, observation_dim), predicted at t + 1.., raw units."""
    rewards: FloatArray
    """(S, N, h), predicted at t.., raw units; the utility reads all but the last."""
    values: FloatArray
    """(S, N, h), terminal values: the model's returns-to-go, or the critic's min(Q1, Q2)."""
    utilities: FloatArray
    """(S, N), eq. 3, of the decision itself."""
    probabilities: FloatArray
    """(S, N), eq. 4."""
    chosen: npt.NDArray[np.int64]
    """(S,) candidate drawn; -1 where they were averaged."""
    planned: FloatArray
    """(S, H, action_dim), the sequence chosen, see `PlanDetails.planned`."""
    planned_states: FloatArray
    """(S, H - 1, observation_dim), predicted for it."""
    planned_utilities: FloatArray
    """(S,)"""
    action_difference: float
    """Largest difference between an action played and the same decision computed again: 0 on a CPU."""
    utility_difference: float
    """Largest difference between utilities of the decision and those made from the values recorded, relative to the
    decision's largest where that is above 1: rounding, since a record decodes more than a decision reads."""


def consider(
    agent: Agent,
    episode: PlayedEpisode,
    steps: Sequence[int],
    *,
    deterministic: bool = True,
    progress: Callable[[int], bool | None] | None = None,
) -> Considered:
    """The decisions at `steps` of an episode that this agent played, with its present guide and settings.

    `progress` is called with the number of decisions done; where it returns True, no more are. Raises UserError for
    planner `none`, which considers nothing, for a step that the episode has not, and where the record would be larger
    than `LARGEST_BYTES`.
    """
    if agent.guide == "none":
        raise UserError("planner none considers no candidates; use return or critic")
    outside = [step for step in steps if not 0 <= step < len(episode)]
    if outside or not steps:
        named = f"step {outside[0]}" if outside else "none"
        raise UserError(f"{named} of the episode's {len(episode)} decisions asked for; they count from 0")
    check_size(agent, len(steps))
    contexts = contexts_of(agent, episode)
    parts, chosen_states, chosen_utilities, utilities = [], [], [], []
    action_difference = utility_difference = 0.0
    for done, step in enumerate(steps):
        context = contexts.select([step])
        decision = agent.planner.plan(context, guide=agent.guide, sample=not deterministic, record=True)
        details = agent.planner.plan(context, guide=agent.guide, sample=not deterministic, details=True).details
        assert decision.record is not None
        assert details is not None
        states, worth = agent.planner.foresee(context, details.planned, guide=agent.guide)
        own = decision.record.utilities
        scale = max(1.0, float(np.abs(own).max()))
        utility_difference = max(utility_difference, float(np.abs(own - details.utilities).max()) / scale)
        action_difference = max(action_difference, float(np.abs(decision.actions - episode.actions[step]).max()))
        parts.append(details)
        chosen_states.append(states[:, 0])
        chosen_utilities.append(worth[:, 0])
        utilities.append(own)
        if progress is not None and progress(done + 1):
            steps = steps[: done + 1]
            break
    return Considered(
        steps=np.asarray(steps, dtype=np.int64),
        horizons=agent.planner.segment_length - contexts.positions[list(steps)],
        candidates=_together(parts, "candidates"),
        states=_together(parts, "predicted_states"),
        rewards=_together(parts, "predicted_rewards"),
        values=_together(parts, "terminal_values"),
        utilities=np.concatenate(utilities),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        chosen=np.concatenate([part.chosen for part in parts]),
        planned=_together(parts, "planned")[:, 0],
        planned_states=_padded(chosen_states, 1),
        planned_utilities=np.concatenate(chosen_utilities),
        action_difference=action_difference,
        utility_difference=utility_difference,
    )


def carry_out(
    agent: Agent, episode: PlayedEpisode, considered: Considered, states: Sequence[SimulatorState]
) -> FloatArray:
    """(S, H - 1, observation_dim): what follows where the whole chosen sequence is carried out, without planning anew.

    `states` are the simulator's at the S decisions. NaN beyond a decision's horizon, and after an end.
    """
    contexts = contexts_of(agent, episode).select(considered.steps)
    followed = np.full(considered.planned_states.shape, np.nan, dtype=np.float32)
    for horizon in np.unique(considered.horizons[considered.horizons > 1]):
        rows = np.flatnonzero(considered.horizons == horizon)
        visited = VisitedStates(contexts.select(rows), [states[int(row)] for row in rows])
        actions = considered.planned[rows, None, : horizon - 1]
        branches = run_branches(agent, visited, actions, rollout_steps=0, discount=1.0, states_at_once=1)
        reached = np.where(branches.alive[:, 0, :, None], branches.states[:, 0], np.nan)
        followed[rows, : horizon - 1] = reached
    return followed


def check_size(agent: Agent, decisions: int) -> None:
    """Raises UserError where so many decisions with all their candidates would need more than `LARGEST_BYTES`."""
    numbers = agent.planner.segment_length * (agent.action_dim + agent.observation_dim + 2)
    size = 4 * decisions * agent.planner.config.num_candidates * numbers
    if size > LARGEST_BYTES:
        raise UserError(
            f"{decisions} decisions of {agent.planner.config.num_candidates} candidates would need "
            f"{size / 2**30:.1f} GiB; keep fewer decisions (--every, --steps)"
        )


def _together(parts: Sequence[PlanDetails], name: str) -> FloatArray:
    return _padded([getattr(part, name) for part in parts], 2)


def _padded(arrays: Sequence[FloatArray], axis: int) -> FloatArray:
    """Concatenated along the first axis, the axis of steps padded with NaN to the longest."""
    longest = max(array.shape[axis] for array in arrays)
    filled = []
    for array in arrays:
        missing = [(0, longest - size if index == axis else 0) for index, size in enumerate(array.shape)]
        filled.append(np.pad(array, missing, constant_values=np.nan))
    return np.concatenate(filled)
