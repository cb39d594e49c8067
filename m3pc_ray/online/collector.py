"""A rollout worker's part: steps its environments and cuts their episodes into fragments."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.environments.actions import to_environment_range
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.decisions import DecisionRecords
from m3pc_ray.online.replay.fragments import EpisodeKey, Fragment
from m3pc_ray.planning.context import ContextWindow, PlanningContext
from m3pc_ray.trajectories.episodes import EpisodeEnd


def episode_seed(run_seed: int, key: EpisodeKey) -> int:
    """Seed an episode is reset with: different for every run seed, worker, incarnation and episode."""
    entropy = [run_seed, key.worker, key.incarnation, key.episode]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0]) >> 1  # Gymnasium takes 31 bits anywhere


def episode_stream(key: EpisodeKey) -> int:
    """Number of the random stream an episode's decisions draw from: the three counts side by side in 64 bits.

    The top bit keeps exploration apart from evaluation, whose streams are small numbers.
    """
    return (1 << 63) | (key.worker & 0x7FFF) << 48 | (key.incarnation & 0xFFFF) << 32 | (key.episode & 0xFFFFFFFF)


@dataclass(frozen=True)
class FinishedEpisode:
    """An episode a worker has seen the end of."""

    key: EpisodeKey
    total_reward: float
    length: int
    end: EpisodeEnd


@dataclass
class _Pending:
    """One environment's episode: steps not sent yet, and what was sent before."""

    key: EpisodeKey
    reset_seed: int
    offset: int = 0
    observations: list[NDArray[np.float32]] = field(default_factory=list)
    actions: list[NDArray[np.float32]] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    decisions: list[DecisionRecords] = field(default_factory=list)
    total_reward: float = 0.0
    length: int = 0
    last_versions: tuple[int, int] = (0, 0)


class Collector:
    """Steps several environments of one worker; every step costs a ticket.

    One round is `request` (what to plan for), then `act` (step with the planned actions). The environments may stand in
    several lanes with rounds of their own, so that one lane is stepped while another is planned for. Fragments gather
    in `take_fragments`: every `fragment_steps` steps of an episode, at its end, and at `flush`.

    Args:
        worker, incarnation: name this collector's episodes, see `EpisodeKey`.
        group: its environments.
        context_length: past steps the planner sees.
        run_seed: seed of the run.
        fragment_steps: most steps of an episode held back.
        planner: the planner's settings as JSON, recorded with every fragment.
    """

    def __init__(
        self,
        worker: int,
        incarnation: int,
        group: EnvironmentGroup,
        *,
        context_length: int,
        run_seed: int,
        fragment_steps: int,
        planner: str,
    ) -> None:
        self.worker, self.incarnation, self.group = worker, incarnation, group
        self.run_seed, self.fragment_steps, self.planner = run_seed, fragment_steps, planner
        self.tickets = 0
        self.steps = 0
        spec = group.spec
        self._window = ContextWindow(len(group), spec.observation_dim, spec.action_dim, context_length)
        self._current = np.zeros((len(group), spec.observation_dim), dtype=np.float32)
        self._episodes = 0
        self._pending = [self._start(row) for row in range(len(group))]
        self.set_lanes(1)
        self._fragments: list[Fragment] = []
        self._finished: list[FinishedEpisode] = []

    @property
    def lanes(self) -> int:
        """Groups of environments that take their rounds in turn."""
        return len(self._lanes)

    def set_lanes(self, count: int) -> None:
        """Divide the environments into so many lanes, one environment at least in each; no request may be open."""
        rows = np.arange(len(self.group))
        self._lanes = [part for part in np.array_split(rows, count) if len(part)]
        self._asked: dict[int, NDArray[np.int64]] = {}

    def request(self, lane: int = 0) -> PlanningContext | None:
        """What a lane's next round needs planned: a row for each environment there is a ticket for, which is used up.

        None without tickets.
        """
        rows = self._lanes[lane][: self.tickets]
        if not len(rows):
            return None
        self.tickets -= len(rows)
        self._asked[lane] = rows
        pending = [self._pending[row] for row in rows]
        keys = np.array([(self.run_seed, episode_stream(p.key), p.length) for p in pending], dtype=np.uint64)
        return self._window.context(keys, rows)

    def act(
        self,
        actions: NDArray[np.float32],
        version: int,
        records: DecisionRecords | None = None,
        rest: NDArray[np.float32] | None = None,
        lane: int = 0,
    ) -> None:
        """Step the environments of a lane's `request` with its answer: actions (rows, action_dim) in (-1, 1).

        With `records`, fragments keep what every decision depended on; given always or never. `rest`: what the plans
        have left, for the next request.

        Raises:
            UserError: an action is not finite; nothing is stepped.
        """
        if not np.isfinite(actions).all():
            raise UserError(
                f"a planned action is not finite (weights of version {version}); nothing was stepped with it"
            )
        spec = self.group.spec
        rows = self._asked.pop(lane)
        if rest is not None:
            self._window.remember(rows, rest)
        own_range = to_environment_range(actions, spec.action_low, spec.action_high)
        transitions = self.group.step(own_range, rows)
        self.steps += len(rows)
        for i, row in enumerate(rows.tolist()):
            pending = self._pending[row]
            pending.observations.append(self._current[row].copy())
            pending.actions.append(own_range[i])
            pending.rewards.append(float(transitions.rewards[i]))
            pending.versions.append(version)
            if records is not None:
                pending.decisions.append(records.rows(i, i + 1))
            pending.total_reward += float(transitions.rewards[i])
            pending.length += 1
            self._current[row] = transitions.observations[i]
            self._window.append(row, actions[i], transitions.observations[i])
            if transitions.terminated[i]:
                self._finish(row, EpisodeEnd.TERMINATED)
            elif transitions.truncated[i]:
                self._finish(row, EpisodeEnd.TIME_LIMIT)
            elif len(pending.rewards) >= self.fragment_steps:
                self._cut_fragment(row, None)

    def flush(self) -> None:
        """Cut fragments of all steps held back; the episodes go on."""
        for row, pending in enumerate(self._pending):
            if pending.rewards:
                self._cut_fragment(row, None)

    def close_episodes(self) -> None:
        """End every episode that has begun as cut: nobody will continue it. New ones start, unseen until stepped."""
        for row, pending in enumerate(self._pending):
            if pending.length:
                self._finish(row, EpisodeEnd.CUT)

    def take_fragments(self) -> list[Fragment]:
        """Fragments cut since the last call, in order."""
        fragments, self._fragments = self._fragments, []
        return fragments

    def take_finished(self) -> list[FinishedEpisode]:
        """Episodes that ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def _start(self, row: int) -> _Pending:
        key = EpisodeKey(self.worker, self.incarnation, self._episodes)
        self._episodes += 1
        seed = episode_seed(self.run_seed, key)
        self._current[row] = self.group.reset(row, seed=seed)
        self._window.reset(row, self._current[row])
        return _Pending(key, seed)

    def _finish(self, row: int, end: EpisodeEnd) -> None:
        pending = self._pending[row]
        self._cut_fragment(row, end)
        self._finished.append(FinishedEpisode(pending.key, pending.total_reward, pending.length, end))
        self._pending[row] = self._start(row)

    def _cut_fragment(self, row: int, end: EpisodeEnd | None) -> None:
        pending, spec = self._pending[row], self.group.spec
        steps = len(pending.rewards)
        if steps:
            pending.last_versions = (min(pending.versions), max(pending.versions))
        self._fragments.append(
            Fragment(
                key=pending.key,
                offset=pending.offset,
                observations=np.array(pending.observations, dtype=np.float32).reshape(steps, spec.observation_dim),
                actions=np.array(pending.actions, dtype=np.float32).reshape(steps, spec.action_dim),
                rewards=np.array(pending.rewards, dtype=np.float32),
                final_observation=self._current[row].copy(),
                end=end,
                reset_seed=pending.reset_seed,
                weight_versions=pending.last_versions,
                planner=self.planner,
                decisions=DecisionRecords.concatenate(pending.decisions) if pending.decisions else None,
            )
        )
        pending.offset += steps
        for held in (pending.observations, pending.actions, pending.rewards, pending.versions, pending.decisions):
            held.clear()
