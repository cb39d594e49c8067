"""Plays an episode and records what was considered at some of its decisions: the work behind `m3pc plan`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from m3pc_ray.agent import Agent
from m3pc_ray.environments.action_names import action_names
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.environments.observation_names import observation_names
from m3pc_ray.environments.simulator import SimulatorState, has_state, save_state
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.considered import Considered, carry_out, check_size, consider
from m3pc_ray.evaluation.evaluate import check_environment
from m3pc_ray.evaluation.plan_record import find_bodies, write_plan_record
from m3pc_ray.evaluation.play import PlayedEpisode, play_episode
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.trajectories.scores import normalised_score


@dataclass(frozen=True)
class Kept:
    """Decisions first, first + every, ... below last (None: to the episode's end)."""

    first: int = 0
    last: int | None = None
    every: int = 1

    def within(self, steps: int) -> range:
        """Those of an episode of so many steps."""
        return range(self.first, steps if self.last is None else min(self.last, steps), self.every)


@dataclass(frozen=True, eq=False)
class Recorded:
    """What was played and written."""

    episode: PlayedEpisode
    considered: Considered
    about: Mapping[str, Any]
    """What the record says of itself."""
    warnings: list[str]
    interrupted: bool
    """Whether Ctrl-C cut the episode, or the decisions kept, short."""


def record_plans(
    agent: Agent,
    path: Path,
    seed: int,
    kept: Kept,
    *,
    deterministic: bool = True,
    about: Mapping[str, Any],
    status: Callable[[str], None] = lambda _: None,
) -> Recorded:
    """Play the episode of `seed`, consider the decisions kept again, and write all of it to `path`.

    With `kept.last` the episode goes on for one more window and no further. The first Ctrl-C ends what is going on and
    what there is gets written. `about` is added to what the record says of itself; `status` hears how it goes.

    Raises UserError for planner `none`, for an environment unlike the one trained on, for decisions after the episode's
    end or too many of them, and where the file cannot be written.
    """
    if agent.guide == "none":
        raise UserError("planner none considers no candidates; use return or critic")
    states: dict[int, SimulatorState] = {}
    with EnvironmentGroup(agent.environment_id, 1, time_limit=agent.time_limit) as group:
        check_environment(agent, group)
        asked = kept.within(group.spec.time_limit)
        if not asked:
            raise UserError(f"decision {kept.first} lies beyond the time limit of {group.spec.time_limit} steps")
        check_size(agent, len(asked))
        until = None if kept.last is None else kept.last + agent.planner.segment_length
        simulated = has_state(group.environments[0])

        def before(step: int, environment: gymnasium.Env[Any, Any]) -> None:
            if simulated and step in asked:
                states[step] = save_state(environment)

        with StopRequest() as stop:

            def after(steps: int, total: float) -> bool:
                status(f"playing: step {steps}, return {total:.0f}")
                return stop.requested or steps == until

            episode = play_episode(agent, group, seed, deterministic=deterministic, before=before, after=after)
        interrupted = stop.requested
        steps = list(kept.within(len(episode)))
        if not steps:
            raise UserError(f"the episode ended after {len(episode)} steps, before decision {kept.first}")
        with StopRequest() as stop:

            def progress(done: int) -> bool:
                status(f"computing decisions again: {done} of {len(steps)}")
                return stop.requested

            considered = consider(agent, episode, steps, deterministic=deterministic, progress=progress)
            status("carrying the plans out")
            kept_states = [states[int(step)] for step in considered.steps] if simulated else []
            carried = carry_out(agent, episode, considered, kept_states) if simulated else None
            bodies, without = find_bodies(group.environments[0], episode, considered)
            facts = {**about, **_about(agent, episode, group, deterministic)}
            status("writing")
            std = agent.planner.model.get_buffer("states_std").cpu().numpy()
            write_plan_record(path, facts, episode, considered, std, carried, bodies)
        interrupted |= stop.requested
    warnings = [f"the page has no figures: {without}"] if without else []
    if not simulated:
        warnings.append(f"plans are not carried out: {agent.environment_id} is not simulated by MuJoCo")
    if considered.action_difference:
        warnings.append(
            f"decisions computed again gave other actions, by up to {considered.action_difference:.2g}; what the page "
            "shows is near what was considered, not the same"
        )
    return Recorded(episode, considered, facts, warnings, interrupted)


def _about(agent: Agent, episode: PlayedEpisode, group: EnvironmentGroup, deterministic: bool) -> dict[str, Any]:
    environment = group.environments[0]
    total = float(np.sum(episode.rewards, dtype=np.float64))
    seconds = getattr(environment.unwrapped, "dt", None)
    dimensions = observation_names(agent.environment_id, agent.observation_dim)
    reference = agent.metadata if agent.metadata is not None else agent.environment_id
    return {
        "environment": agent.environment_id,
        "planner": agent.guide,
        "settings": asdict(agent.planner.config),
        "discount": agent.planner.discount,
        "segment_length": agent.planner.segment_length,
        "planner_seed": agent.seed,
        "deterministic": deterministic,
        "return": total,
        "score": normalised_score(total, reference),
        "seconds_per_step": None if seconds is None else float(seconds),
        "state_names": [dimension.label for dimension in dimensions],
        "action_names": action_names(environment, agent.action_dim),
    }
