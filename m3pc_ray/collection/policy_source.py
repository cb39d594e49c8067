"""A policy as a source of episodes: an `agent.Agent` of a run, a trained SAC, or a scripted expert."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.collection.source import Episode, Tick
from m3pc_ray.environments.actions import to_environment_range
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.evaluate import Acting
from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd
from m3pc_ray.trajectories.validation import environment_facts, metadata_of

MOST_NOISE = 10.0
"""Noise beyond this many half ranges would only choose corners of the action space."""


@runtime_checkable
class SaysWhenOver(Protocol):
    """An agent whose attempts come to an end before the environment's time limit, as a script does."""

    def over(self, row: int) -> bool:
        """Whether the attempt in this row has ended; the episode then ends there, terminated."""


class PolicySource:
    """Plays an agent in environments side by side.

    Episode n resets its environment with `seed + n`, and draws its noise and the agent's random stream by that number.

    Args:
        agent: who acts.
        environment_id: where.
        described: what tells the agent from others, for the recipe.
        seed: of resets, noise and the agent's streams.
        deterministic: whether the agent acts by its mean, or draws.
        noise: standard deviation of Gaussian noise added to actions, in half ranges of the action space; the sum is
            clipped to the bounds.
        noise_varies: every episode draws its own deviation, evenly from 0 to `noise`.
        attempts: so many episodes in a row begin alike: episode n resets its environment with `seed + n // attempts`.
        parallel: environments side by side.
        time_limit: steps after which an episode is cut off; 0: the environment's own.
    """

    def __init__(
        self,
        agent: Acting,
        environment_id: str,
        described: dict[str, Any],
        *,
        seed: int = 0,
        deterministic: bool = True,
        noise: float = 0.0,
        noise_varies: bool = False,
        attempts: int = 1,
        parallel: int = 8,
        time_limit: int = 0,
    ) -> None:
        if not 0.0 <= noise <= MOST_NOISE:
            raise UserError(f"noise is {noise:g}; it must be from 0 to {MOST_NOISE:g} half ranges of the action space")
        if parallel < 1:
            raise UserError(f"{parallel} environments side by side; at least 1 is needed")
        self.agent, self.environment_id, self.described = agent, environment_id, described
        self.seed, self.deterministic, self.noise = seed, deterministic, noise
        self.noise_varies, self.attempts = noise_varies, attempts
        self.parallel, self.time_limit = parallel, time_limit
        facts = environment_facts(environment_id)
        limit = time_limit or facts.max_episode_steps
        self.metadata: DatasetMetadata = metadata_of(facts, "", max_episode_steps=limit)

    def recipe(self) -> dict[str, Any]:
        """See `Source`."""
        return {
            **self.described,
            "environment": self.environment_id,
            "seed": self.seed,
            "deterministic": self.deterministic,
            "noise": self.noise,
            "time_limit": self.metadata.max_episode_steps,
        }

    def play(self, numbers: Iterable[int], tick: Tick) -> Iterator[tuple[int, Episode]]:
        """See `Source`."""
        waiting = iter(numbers)
        self.agent.reset()
        with EnvironmentGroup(self.environment_id, self.parallel, time_limit=self.time_limit) as group:
            playing: dict[int, _Playing] = {}
            for row in range(self.parallel):
                self._start(group, row, waiting, playing)
            while playing:
                rows = sorted(playing)
                actions = self._act(rows, playing)
                transitions = group.step(actions, rows)
                for place, row in enumerate(rows):
                    playing[row].add(actions[place], transitions.observations[place], transitions.rewards[place])
                    done = bool(transitions.done[place])
                    given_up = isinstance(self.agent, SaysWhenOver) and self.agent.over(row)
                    if done or given_up:
                        ended = bool(transitions.terminated[place]) or not done
                        episode = playing[row].episode(EpisodeEnd.TERMINATED if ended else EpisodeEnd.TIME_LIMIT)
                        number = playing.pop(row).number
                        # Given out before the next number is asked for: the collection then knows whether it has all.
                        yield number, episode
                        self._start(group, row, waiting, playing)
                tick(len(rows))

    def _start(self, group: EnvironmentGroup, row: int, waiting: Iterator[int], playing: dict[int, _Playing]) -> None:
        number = next(waiting, None)
        if number is not None:
            observation = group.reset(row, seed=self.seed + number // self.attempts)
            rng = np.random.default_rng([self.seed, number, 23])
            noise = rng.uniform(0.0, self.noise) if self.noise_varies else self.noise
            playing[row] = _Playing(number, rng, noise, [observation])

    def _act(self, rows: list[int], playing: dict[int, _Playing]) -> NDArray[np.float32]:
        """(rows, action_dim) in the environment's bounds."""
        plan = self.agent.plan(
            np.stack([playing[row].observations[-1] for row in rows]),
            np.array([not playing[row].actions for row in rows]),
            self.deterministic,
            rows=rows,
            streams=np.array([self.seed + playing[row].number for row in rows]),
        )
        actions = plan.actions
        if self.noise:
            drawn = [playing[row].noise * playing[row].rng.standard_normal(actions.shape[1]) for row in rows]
            actions = np.clip(actions + np.stack(drawn), -1.0, 1.0).astype(np.float32)
        return to_environment_range(actions, self.agent.action_low, self.agent.action_high)


@dataclass
class _Playing:
    """An episode under way."""

    number: int
    rng: np.random.Generator
    noise: float
    observations: list[NDArray[np.float32]]
    actions: list[NDArray[np.float32]] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)

    def add(self, action: NDArray[np.float32], observation: NDArray[np.float32], reward: float) -> None:
        self.actions.append(action)
        self.observations.append(observation)
        self.rewards.append(reward)

    def episode(self, end: EpisodeEnd) -> Episode:
        return Episode(np.stack(self.observations), np.stack(self.actions), np.array(self.rewards, np.float32), end)
