"""Experience in memory: flat arrays of steps plus an index of episodes.

episode_starts  0           3              8         (one more entry than episodes)
rows            0  1  2  |  3  4  5  6  7
observations    o0 o1 o2 |  o3 ...     o7            what the agent saw before acting
actions         a0 a1 a2 |  a3 ...     a7
rewards         r0 r1 r2 |  r3 ...     r7            what that action earned
actions_known    1  1  1 |   0 ...      0            which actions the data holds; None: all. rewards_known likewise
final_observations     f0 |              f1          what it saw after its last action

States are always there; actions and rewards may be missing at any step (demonstrations may be states alone). A missing
value is stored as 0 and never read: whoever reads actions or rewards asks `actions_known` or `rewards_known` first.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories import validity


class EpisodeEnd(enum.IntEnum):
    """Why an episode has no further step."""

    TERMINATED = 0
    """The task itself ended, or an attempt at it was given up: nothing is earned afterwards."""
    TIME_LIMIT = 1
    """The environment's step limit was reached; the state had a future that nobody saw."""
    CUT = 2
    """The file or the worker stopped in mid-episode: the return is unknown."""


@dataclass(frozen=True)
class DatasetMetadata:
    """What a data set says about itself."""

    name: str
    """How the data set is called in tables and file names."""
    environment_id: str
    """Gymnasium id of the environment the experience comes from."""
    observation_low: tuple[float, ...]
    """Lower bounds of the observation space (obs_dim,)."""
    observation_high: tuple[float, ...]
    """Upper bounds of the observation space (obs_dim,)."""
    action_low: tuple[float, ...]
    """Lower bounds of the action space (action_dim,); actions are stored within these, not rescaled."""
    action_high: tuple[float, ...]
    """Upper bounds of the action space (action_dim,)."""
    reference_min_score: float | None = None
    """Return that scores 0 (D4RL: a random policy); none: no reference known."""
    reference_max_score: float | None = None
    """Return that scores 100 (D4RL: an expert policy)."""
    reference_source: str = ""
    """Where the reference scores come from."""
    max_episode_steps: int = 0
    """Time limit of the environment in steps; 0: none known."""
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of the packages the experience was made with, where recorded."""
    origin: str = ""
    """Where the data set comes from and how it was made."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; an infinite bound becomes null."""
        values = dataclasses.asdict(self)
        for key in ("observation_low", "observation_high", "action_low", "action_high"):
            values[key] = [bound if math.isfinite(bound) else None for bound in values[key]]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DatasetMetadata:
        """The inverse of `to_json`. Raises KeyError or TypeError where a field is missing or unknown."""
        values = dict(values)
        for key, unbounded in (
            ("observation_low", -math.inf),
            ("observation_high", math.inf),
            ("action_low", -math.inf),
            ("action_high", math.inf),
        ):
            values[key] = tuple(unbounded if bound is None else float(bound) for bound in values[key])
        return cls(**values)

    def replace(self, **changes: Any) -> DatasetMetadata:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Trajectories:
    """Episodes in flat arrays (steps, ...); see the picture at the top of the module.

    Raises ValueError where the arrays do not fit together: a programming error, readers check their files before.
    """

    observations: NDArray[np.float32]
    """(steps, obs_dim)"""
    actions: NDArray[np.float32]
    """(steps, action_dim), within the environment's bounds"""
    rewards: NDArray[np.float32]
    """(steps,)"""
    episode_starts: NDArray[np.int64]
    """(episodes + 1,) row of every episode's first step; the last entry is the number of steps"""
    episode_ends: NDArray[np.int8]
    """(episodes,) an `EpisodeEnd` each"""
    final_observations: NDArray[np.float32]
    """(episodes, obs_dim) observation after the last action; a row of NaN where unknown"""
    metadata: DatasetMetadata
    actions_known: validity.Known = None
    """(steps,) False where the action is missing; None: none is (all True becomes None)"""
    rewards_known: validity.Known = None
    """(steps,) False where the reward is missing; None: none is (all True becomes None)"""

    def __post_init__(self) -> None:
        for name, kind in (
            ("observations", np.float32),
            ("actions", np.float32),
            ("rewards", np.float32),
            ("episode_starts", np.int64),
            ("episode_ends", np.int8),
            ("final_observations", np.float32),
        ):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=kind))
        steps, episodes = len(self.rewards), len(self.episode_ends)
        shapes = {
            "observations": (self.observations.ndim == 2 and len(self.observations) == steps),
            "actions": (self.actions.ndim == 2 and len(self.actions) == steps),
            "rewards": self.rewards.ndim == 1,
            "episode_starts": self.episode_starts.shape == (episodes + 1,),
            "final_observations": self.final_observations.shape == (episodes, self.observations.shape[-1]),
        }
        wrong = [name for name, fits in shapes.items() if not fits]
        if wrong:
            raise ValueError(f"trajectories: {', '.join(wrong)} do not fit {steps} steps in {episodes} episodes")
        starts = self.episode_starts
        if starts[0] != 0 or starts[-1] != steps or np.any(np.diff(starts) <= 0):
            raise ValueError("trajectories: episode_starts must rise from 0 to the number of steps, no episode empty")
        for name in ("actions", "rewards"):
            known = validity.normalise(getattr(self, f"{name}_known"), steps)
            object.__setattr__(self, f"{name}_known", known)
            object.__setattr__(self, name, validity.blank(getattr(self, name), known))

    @property
    def num_steps(self) -> int:
        return len(self.rewards)

    @property
    def num_episodes(self) -> int:
        return len(self.episode_ends)

    @property
    def observation_dim(self) -> int:
        return int(self.observations.shape[1])

    @property
    def action_dim(self) -> int:
        return int(self.actions.shape[1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(episodes,) steps of every episode."""
        return np.diff(self.episode_starts)

    @property
    def returns(self) -> NDArray[np.float64]:
        """(episodes,) undiscounted sum of the rewards seen; of a cut episode, of the part that was seen.

        NaN where a reward of the episode is missing.
        """
        sums = np.add.reduceat(self.rewards.astype(np.float64), self.episode_starts[:-1])
        if self.rewards_known is not None:
            sums[~validity.whole_episodes(self.rewards_known, self.episode_starts)] = np.nan
        return sums

    def returns_known(self) -> NDArray[np.bool_]:
        """(episodes,) True where the return of the whole episode is known: it is not cut and no reward is missing."""
        whole = validity.whole_episodes(self.rewards_known, self.episode_starts)
        return whole & (self.episode_ends != EpisodeEnd.CUT)

    @property
    def num_bytes(self) -> int:
        """Memory taken by the arrays."""
        arrays = (self.observations, self.actions, self.rewards, self.episode_starts, self.episode_ends)
        flags = sum(known.nbytes for known in (self.actions_known, self.rewards_known) if known is not None)
        return sum(array.nbytes for array in arrays) + self.final_observations.nbytes + flags

    def next_observations(self) -> NDArray[np.float32]:
        """(steps, obs_dim) observation after every step; NaN after the last step of an episode where unknown.

        Mind that 0 x NaN is NaN: do not rely on a zero weight to silence a terminated step whose successor is unknown.
        """
        following = np.empty_like(self.observations)
        following[:-1] = self.observations[1:]
        following[self.episode_starts[1:] - 1] = self.final_observations
        return following

    def terminated(self) -> NDArray[np.bool_]:
        """(steps,) True on the step with which the task truly ended."""
        flags = np.zeros(self.num_steps, dtype=bool)
        flags[self.episode_starts[1:] - 1] = self.episode_ends == EpisodeEnd.TERMINATED
        return flags

    def timesteps(self) -> NDArray[np.int64]:
        """(steps,) index of every step within its episode."""
        return np.arange(self.num_steps, dtype=np.int64) - np.repeat(self.episode_starts[:-1], self.lengths)

    def best_first(self) -> NDArray[np.int64]:
        """(episodes,) indices by falling return; equal ones in their old order, those with missing rewards last."""
        return np.argsort(-self.returns, kind="stable")

    def select(self, episode_indices: ArrayLike) -> Trajectories:
        """The given episodes, in the given order; an index may repeat."""
        chosen = np.asarray(episode_indices, dtype=np.int64).reshape(-1)
        lengths = self.lengths[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.arange(starts[-1]) + np.repeat(self.episode_starts[chosen] - starts[:-1], lengths)
        return Trajectories(
            observations=self.observations[rows],
            actions=self.actions[rows],
            rewards=self.rewards[rows],
            episode_starts=starts,
            episode_ends=self.episode_ends[chosen],
            final_observations=self.final_observations[chosen],
            metadata=self.metadata,
            actions_known=validity.take(self.actions_known, rows),
            rewards_known=validity.take(self.rewards_known, rows),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Trajectories], metadata: DatasetMetadata | None = None) -> Trajectories:
        """All episodes of the parts, in order, with the metadata of the first unless given.

        Raises UserError when the parts come from different environments or differ in size.
        """
        if not parts:
            raise ValueError("concatenate needs at least one part")
        first = parts[0]
        for part in parts[1:]:
            if part.metadata.environment_id != first.metadata.environment_id:
                raise UserError(
                    f"{part.metadata.name} comes from {part.metadata.environment_id} and cannot be joined to "
                    f"{first.metadata.name} from {first.metadata.environment_id}"
                )
            if (part.observation_dim, part.action_dim) != (first.observation_dim, first.action_dim):
                raise UserError(
                    f"{part.metadata.name} has observations and actions of size {part.observation_dim} and "
                    f"{part.action_dim}, {first.metadata.name} of {first.observation_dim} and {first.action_dim}"
                )
        offsets = np.concatenate([[0], np.cumsum([part.num_steps for part in parts])])
        starts = [part.episode_starts[:-1] + offset for part, offset in zip(parts, offsets, strict=False)]
        return cls(
            observations=np.concatenate([part.observations for part in parts]),
            actions=np.concatenate([part.actions for part in parts]),
            rewards=np.concatenate([part.rewards for part in parts]),
            episode_starts=np.concatenate([*starts, offsets[-1:]]),
            episode_ends=np.concatenate([part.episode_ends for part in parts]),
            final_observations=np.concatenate([part.final_observations for part in parts]),
            metadata=metadata or first.metadata,
            actions_known=validity.join([(part.actions_known, part.num_steps) for part in parts]),
            rewards_known=validity.join([(part.rewards_known, part.num_steps) for part in parts]),
        )

    def split(self, validation_fraction: float, seed: int) -> tuple[Trajectories, Trajectories]:
        """(training, validation): a seeded shuffle of episodes, so that neither holds only the newest.

        At least one episode goes to each. Raises UserError for fewer than two episodes or a fraction outside (0, 1).
        """
        if not 0.0 < validation_fraction < 1.0:
            raise UserError(f"data.validation_fraction is {validation_fraction}; it must be above 0 and below 1")
        if self.num_episodes < 2:
            raise UserError(f"{self.metadata.name} has one episode; at least two are needed to hold one out")
        order = np.random.default_rng(seed).permutation(self.num_episodes)
        held_out = min(max(1, round(validation_fraction * self.num_episodes)), self.num_episodes - 1)
        return self.select(np.sort(order[held_out:])), self.select(np.sort(order[:held_out]))

    def fraction(self, fraction: float, seed: int) -> Trajectories:
        """That fraction of the episodes, one at least, in their old order: the first of a seeded shuffle.

        With one seed a smaller fraction is part of a larger one. Raises UserError for a fraction outside (0, 1].
        """
        return self.select(self.fraction_indices(fraction, seed))

    def fraction_indices(self, fraction: float, seed: int) -> NDArray[np.int64]:
        """The indices of the episodes that `fraction` selects, rising. Raises UserError as it does."""
        if not 0.0 < fraction <= 1.0:
            raise UserError(f"the fraction of episodes is {fraction}; it must be above 0 and at most 1")
        order = np.random.default_rng([seed, 4]).permutation(self.num_episodes)
        return np.sort(order[: max(1, round(fraction * self.num_episodes))])

    def without_actions(self, episode_indices: ArrayLike) -> Trajectories:
        """The same episodes, the given ones without their actions: states, rewards and ends stay."""
        keeps = np.ones(self.num_episodes, dtype=bool)
        keeps[np.asarray(episode_indices, dtype=np.int64).reshape(-1)] = False
        known = validity.both(self.actions_known, np.repeat(keeps, self.lengths))
        return dataclasses.replace(self, actions_known=known)

    def labelled_only_in(self, fraction: float, seed: int) -> Trajectories:
        """The same episodes; only those that `fraction` selects keep their actions. Raises UserError as it does."""
        kept = self.fraction_indices(fraction, seed)
        return self.without_actions(np.setdiff1d(np.arange(self.num_episodes), kept))

    def with_actions(self, past: int = 0) -> Trajectories:
        """The episodes that hold an action at some step, with those of the `past` steps before it as far as there are.

        Itself where every action is known. Raises UserError where there is no such step.
        """
        if self.actions_known is None:
            return self
        usable = validity.whole_past(self.actions_known, self.timesteps(), past)
        labelled = np.flatnonzero(np.logical_or.reduceat(usable, self.episode_starts[:-1]))
        if not len(labelled):
            name, before = self.metadata.name, f" with those of the {past} steps before it" if past else ""
            raise UserError(f"{name}: holds no action at all{before}; actions are needed here")
        return self.select(labelled)

    def complete_episodes(self) -> Trajectories:
        """The episodes in which no action and no reward is missing; itself where that is every one.

        Raises UserError where there is none.
        """
        known = validity.both(self.actions_known, self.rewards_known)
        if known is None:
            return self
        complete = np.flatnonzero(validity.whole_episodes(known, self.episode_starts))
        if not len(complete):
            raise UserError(f"{self.metadata.name}: every episode lacks actions or rewards; some must have all of them")
        return self.select(complete)


def write_json(path: Any, values: Any) -> None:
    """Write strict JSON (no NaN, no Infinity), readable by people."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(values, file, indent=2, allow_nan=False)
        file.write("\n")
