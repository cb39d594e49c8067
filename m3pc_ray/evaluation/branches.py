"""Living one simulator state through many times: visit states, then see what each of several actions really leads to.

visited state s_t --+-- candidate 1: a_t .. a_{t+h-1} in the simulator, then the policy for `rollout_steps` --> return
                    +-- candidate 2: ...
                    +-- candidate K
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from m3pc_ray.agent import Agent
from m3pc_ray.environments.actions import FloatArray, to_environment_range
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.environments.simulator import SimulatorState, restore_state, save_state
from m3pc_ray.planning.context import PlanningContext, concatenate_contexts

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class VisitedStates:
    """S moments of episodes: what the planner sees there, and how to go back."""

    context: PlanningContext
    """S rows."""
    simulator_states: list[SimulatorState]
    """S full MuJoCo states."""

    def __len__(self) -> int:
        return len(self.simulator_states)

    def observations(self) -> FloatArray:
        """(S, observation_dim), the current ones."""
        return self.context.observations[np.arange(len(self)), self.context.positions]


@dataclass(frozen=True)
class Branches:
    """What really followed; S states, K branches each, h steps of given actions."""

    returns: npt.NDArray[np.float64]
    """(S, K) discounted sum of rewards over the given actions and the policy's steps after them."""
    rewards: npt.NDArray[np.float64]
    """(S, K, h) rewards of the given actions; 0 after a termination."""
    states: FloatArray
    """(S, K, h, observation_dim) observation after each of them."""
    alive: Booleans
    """(S, K, h) whether that observation exists: no termination before it."""
    terminated: Booleans
    """(S, K) whether the branch truly ended within its steps."""


def visit_states(agent: Agent, count: int, seed: int, max_steps: int = 1000) -> VisitedStates:
    """`count` moments drawn uniformly from the steps of a few episodes acted by the agent with its guide.

    Raises UserError when the environment is not simulated by MuJoCo.
    """
    rng = np.random.default_rng([seed, 31])
    width = min(count, 10)
    contexts: list[PlanningContext] = []
    states: list[SimulatorState] = []
    with EnvironmentGroup(agent.environment_id, width, time_limit=agent.time_limit) as group:
        agent.reset()
        rows = np.arange(width)
        observations = np.stack([group.reset(row, seed=seed + row) for row in range(width)])
        for step in range(max_steps):
            if not len(rows):
                break
            states += [save_state(group.environments[row]) for row in rows]
            starts = np.full(len(rows), step == 0)
            plan = agent.plan(observations[rows], starts, rows=rows, streams=seed + rows)
            contexts.append(agent.context(rows))
            actions = to_environment_range(plan.actions, agent.action_low, agent.action_high)
            transitions = group.step(actions, rows)
            observations[rows] = transitions.observations
            rows = rows[~transitions.done]
        agent.reset()
    context = concatenate_contexts(contexts)
    chosen = np.sort(rng.choice(len(states), size=min(count, len(states)), replace=False))
    return VisitedStates(context.select(chosen), [states[index] for index in chosen])


def run_branches(
    agent: Agent,
    visited: VisitedStates,
    actions: FloatArray,
    *,
    rollout_steps: int,
    discount: float,
    states_at_once: int = 10,
) -> Branches:
    """Execute actions (S, K, h, action_dim), in (-1, 1), from every visited state, then follow the agent.

    The policy after the given actions is the agent's, deterministic, with its current guide; branches that terminated
    drop out. Every branch takes at most h + rollout_steps steps.
    """
    parts = []
    width = min(states_at_once, len(visited)) * actions.shape[1]
    limit = actions.shape[2] + rollout_steps + 1  # beyond the branches: they must not end because they were restarted
    with EnvironmentGroup(agent.environment_id, width, time_limit=limit) as group:
        for first in range(0, len(visited), states_at_once):
            part = slice(first, min(first + states_at_once, len(visited)))
            rows = np.arange(part.start, part.stop)
            some = VisitedStates(visited.context.select(rows), visited.simulator_states[part])
            parts.append(_run(agent, group, some, actions[part], rollout_steps, discount))
    names = ("returns", "rewards", "states", "alive", "terminated")
    return Branches(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _run(
    agent: Agent,
    group: EnvironmentGroup,
    visited: VisitedStates,
    actions: FloatArray,
    rollout_steps: int,
    discount: float,
) -> Branches:
    count, branches, horizon, _ = actions.shape
    total = count * branches
    flat_actions = actions.reshape(total, horizon, -1)
    for row in range(total):
        group.reset(row, seed=0)  # restarts the wrapper's step count; the state is replaced at once
        restore_state(group.environments[row], visited.simulator_states[row // branches])
    context = visited.context.select(np.repeat(np.arange(count), branches))
    returns = np.zeros(total, dtype=np.float64)
    rewards = np.zeros((total, horizon), dtype=np.float64)
    states = np.zeros((total, horizon, agent.observation_dim), dtype=np.float32)
    alive = np.zeros((total, horizon), dtype=np.bool_)
    terminated = np.zeros(total, dtype=np.bool_)
    rows = np.arange(total)
    for step in range(horizon + rollout_steps):
        if not len(rows):
            break
        if step < horizon:
            chosen = flat_actions[rows, step]
        else:
            chosen = agent.planner.plan(context, guide=agent.guide).actions
        transitions = group.step(to_environment_range(chosen, agent.action_low, agent.action_high), rows)
        returns[rows] += discount**step * transitions.rewards
        if step < horizon:
            rewards[rows, step] = transitions.rewards
            states[rows, step] = transitions.observations
            alive[rows, step] = True
        terminated[rows] = transitions.terminated
        going = ~transitions.done
        context = advance(context, chosen, transitions.observations).select(np.flatnonzero(going))
        rows = rows[going]
    shape = (count, branches)
    return Branches(
        returns.reshape(shape),
        rewards.reshape(*shape, horizon),
        states.reshape(*shape, horizon, -1),
        alive.reshape(*shape, horizon),
        terminated.reshape(shape),
    )


def advance(context: PlanningContext, actions: FloatArray, observations: FloatArray) -> PlanningContext:
    """The contexts (B rows) one step later: `actions` (B, action_dim) were taken and `observations` seen after them.

    The vectorised equivalent of `ContextWindow.append` for contexts that belong to no window.
    """
    length = context.context_length
    positions = context.positions
    kept_observations, kept_actions = context.observations.copy(), context.actions.copy()
    full = positions == length
    if length > 0:
        kept_observations[full, :-1] = context.observations[full, 1:]
        kept_actions[full, :-1] = context.actions[full, 1:]
        kept_actions[np.arange(len(positions)), np.minimum(positions, length - 1)] = actions
    kept_observations[np.arange(len(positions)), np.minimum(positions + 1, length)] = observations
    keys = context.keys.copy()
    keys[:, 2] += np.uint64(1)
    return PlanningContext(kept_observations, kept_actions, context.timesteps + 1, keys)
