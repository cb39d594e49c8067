"""The learner's replay: flat arrays on its device, sampled by single gathers.

    rows     0 ......... M-1 | M ............ M+capacity-1
             offline episodes | ring of online steps, in the order they arrived
    order    ring of row numbers, episode after episode in the order they closed: what segments are cut from

Steps of several workers arrive interleaved, so the rows of an online episode are not neighbours; `order` makes them so.
A transition serves the critic as soon as it arrives. A segment serves the trajectory model as soon as its episode has
closed and as long as all its steps are among the newest `capacity` ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3pc_ray.environments.actions import to_model_range
from m3pc_ray.model.masks import RETURNS
from m3pc_ray.online.replay.fragments import EpisodeKey, Fragment
from m3pc_ray.online.replay.replay_rows import ReplayRows, RowFormat
from m3pc_ray.trajectories.episodes import EpisodeEnd
from m3pc_ray.trajectories.returns import from_sum
from m3pc_ray.trajectories.statistics import Statistics


@dataclass
class _OpenEpisode:
    """Arrival numbers and rewards of an episode that goes on, a part a fragment."""

    arrivals: list[NDArray[np.int64]] = field(default_factory=list)
    rewards: list[NDArray[np.float32]] = field(default_factory=list)


class ReplayStorage:
    """Offline episodes, which stay, and online steps, first in, first out.

    Args:
        rows: the offline rows and room for the ring; they belong to this storage, which lives on their device.
        row_format: how the offline rows were made, and online ones will be.
        statistics: normalisation of the trajectory model.
        offline_fraction: share of offline transitions in a critic batch from `balanced_after` online steps on.
        balanced_after: online steps before which transitions are drawn from all data alike.
    """

    def __init__(
        self,
        rows: ReplayRows,
        row_format: RowFormat,
        statistics: Statistics,
        *,
        offline_fraction: float,
        balanced_after: int,
    ) -> None:
        self._rows, self._format = rows, row_format
        self.capacity = capacity = rows.capacity
        """Online steps kept."""
        self.offline_steps, self.device = rows.offline_steps, rows.steps.device
        self.offline_fraction, self.balanced_after = offline_fraction, balanced_after
        self._statistics = {
            name: torch.as_tensor(values, dtype=torch.float32, device=self.device)
            for name, values in vars(statistics).items()
        }
        self._all_returns_known = bool(rows.returns_known[: rows.offline_steps].all())
        self.arrived = 0  # online steps ever
        self._open: dict[EpisodeKey, _OpenEpisode] = {}
        # Among the 2 x capacity entries pushed last are all those whose rows are still in the ring: an entry is pushed
        # only while its row is, so entries pushed after it hold arrivals of the last 2 x capacity steps, each once.
        self._order = np.zeros(2 * capacity, dtype=np.int64)
        self._ordered = 0
        self._segment_starts = np.zeros(2 * capacity, dtype=np.int64)
        self._segment_steps = np.zeros(2 * capacity, dtype=np.int64)
        self._first_segment = self._next_segment = 0

    @property
    def online_steps(self) -> int:
        """Online steps held now."""
        return min(self.arrived, self.capacity)

    @property
    def open_episodes(self) -> int:
        return len(self._open)

    @property
    def online_segments(self) -> int:
        """Online segments held, those about to be dropped included."""
        return self._next_segment - self._first_segment

    def column(self, name: str) -> Tensor:
        """All rows of one column, offline ones first; a view."""
        return (self._rows.steps if name in self._rows.steps.widths else self._rows.outcomes)[name]

    def append(self, fragment: Fragment) -> None:
        """Take over a fragment; fragments of an episode must come in order."""
        episode = self._open.setdefault(fragment.key, _OpenEpisode())
        if fragment.num_steps:
            arrivals = self.arrived + np.arange(fragment.num_steps)
            self._write(fragment, arrivals)
            self.arrived += fragment.num_steps
            episode.arrivals.append(arrivals)
            episode.rewards.append(fragment.rewards)
        if fragment.end is not None:
            del self._open[fragment.key]
            if episode.arrivals:
                self._close(np.concatenate(episode.arrivals), np.concatenate(episode.rewards), fragment.end)

    def sample_transitions(self, rng: np.random.Generator, updates: int, batch_size: int) -> list[dict[str, Tensor]]:
        """`updates` batches of transitions, uniform with replacement, gathered at once."""
        held, offline = self.online_steps, len(self._rows.transitions)
        if held < max(1, self.balanced_after):
            picked = rng.integers(offline + held, size=(updates, batch_size))
            from_offline = picked < offline
            online_rows = self.offline_steps + picked - offline
            rows = np.where(from_offline, self._rows.transitions[np.where(from_offline, picked, 0)], online_rows)
        else:
            split = round(self.offline_fraction * batch_size)
            old = self._rows.transitions[rng.integers(offline, size=(updates, split))]
            new = self.offline_steps + rng.integers(held, size=(updates, batch_size - split))
            rows = np.concatenate([old, new], axis=1)
        at = torch.as_tensor(rows.reshape(-1), device=self.device)
        gathered = {
            name: values.split(batch_size)
            for name, values in (self._rows.steps.take(at) | self._rows.outcomes.take(at)).items()
        }
        return [{name: parts[update] for name, parts in gathered.items()} for update in range(updates)]

    def sample_segments(self, rng: np.random.Generator, count: int) -> tuple[dict[str, Tensor], Tensor | None]:
        """`count` segments, uniform over those of offline and of closed online episodes.

        Returns:
            Normalised tokens (count, T, dim) by modality, and which of them exist (count, 4, T), None when all do.
        """
        return self.gather(*self.segment_rows(rng, count))

    def segment_rows(self, rng: np.random.Generator, count: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(rows (count, T), valid (count, T)) of segments drawn uniformly; padding repeats the last real row."""
        self._drop_old_segments()
        offline = self._rows.segments.num_segments
        picked = rng.integers(offline + self.online_segments, size=count)
        while True:  # a segment behind the oldest may be gone already: its episode closed after a younger one did
            gone = np.flatnonzero((picked >= offline) & self._is_gone(self._first_segment + picked - offline))
            if not len(gone):
                break
            picked[gone] = rng.integers(offline + self.online_segments, size=len(gone))
        rows = np.empty((count, self._format.segment_length), dtype=np.int64)
        valid = np.empty((count, self._format.segment_length), dtype=bool)
        old = picked < offline
        rows[old], valid[old] = self._rows.segments.rows(picked[old])
        rows[~old], valid[~old] = self._online_rows(self._first_segment + picked[~old] - offline)
        return rows, valid

    def gather(self, rows: NDArray[np.int64], valid: NDArray[np.bool_]) -> tuple[dict[str, Tensor], Tensor | None]:
        """Normalised tokens of the rows (B, T), and which exist (B, 4, T); see `sample_segments`."""
        at = torch.as_tensor(rows, device=self.device)
        values, statistics = self._rows.steps.take(at), self._statistics
        tokens = {
            "states": (values["observations"] - statistics["states_mean"]) / statistics["states_std"],
            "returns": (values["returns"].unsqueeze(-1) - statistics["returns_mean"]) / statistics["returns_std"],
            "actions": values["actions"],
            "rewards": (values["rewards"].unsqueeze(-1) - statistics["rewards_mean"]) / statistics["rewards_std"],
        }
        if self._all_returns_known and valid.all():
            return tokens, None
        exists = torch.as_tensor(valid.copy(), device=self.device).unsqueeze(1).repeat(1, 4, 1)
        exists[:, RETURNS] &= self._rows.returns_known[at]
        return tokens, exists

    def _write(self, fragment: Fragment, arrivals: NDArray[np.int64]) -> None:
        at = torch.as_tensor(self.offline_steps + arrivals % self.capacity, device=self.device)
        terminated = np.zeros(fragment.num_steps, dtype=np.float32)
        terminated[-1] = float(fragment.end == EpisodeEnd.TERMINATED)
        arrays = {
            "observations": fragment.observations,
            "next_observations": fragment.next_observations(),
            "actions": to_model_range(fragment.actions, self._format.action_low, self._format.action_high),
            "rewards": fragment.rewards,
            "terminated": terminated,
        }
        for name, array in arrays.items():
            self.column(name)[at] = torch.as_tensor(np.array(array), device=self.device)  # Arrow's arrays are read-only
        self._rows.returns_known[at] = False

    def _close(self, arrivals: NDArray[np.int64], rewards: NDArray[np.float32], end: EpisodeEnd) -> None:
        """Give an episode its returns, as far as they are known, and make its segments available."""
        kept = arrivals >= self.arrived - self.capacity  # an episode may be longer than what is left of the ring
        sums = np.cumsum(rewards[::-1], dtype=np.float64)[::-1]
        returns = from_sum(sums, np.arange(len(rewards)), self._format.scale, self._format.time_limit).astype(
            np.float32
        )[kept]
        arrivals = arrivals[kept]
        if not len(arrivals):
            return
        at = torch.as_tensor(self.offline_steps + arrivals % self.capacity, device=self.device)
        known = end != EpisodeEnd.CUT
        self.column("returns")[at] = torch.as_tensor(returns if known else np.zeros_like(returns), device=self.device)
        self._rows.returns_known[at] = known
        self._all_returns_known &= known
        self._drop_old_segments()  # so that what is pushed overwrites nothing that is still held
        steps, size = len(arrivals), len(self._order)
        self._order[(self._ordered + np.arange(steps)) % size] = arrivals
        segments = max(1, steps - self._format.segment_length + 1)
        slots = (self._next_segment + np.arange(segments)) % size
        self._segment_starts[slots] = self._ordered + np.arange(segments)
        self._segment_steps[slots] = min(steps, self._format.segment_length)
        self._ordered += steps
        self._next_segment += segments

    def _online_rows(self, segments: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        slots = segments % len(self._segment_starts)
        offsets = np.arange(self._format.segment_length)
        steps = self._segment_steps[slots, None]
        ordered = self._segment_starts[slots, None] + np.minimum(offsets, steps - 1)
        arrivals = self._order[ordered % len(self._order)]
        return self.offline_steps + arrivals % self.capacity, np.broadcast_to(offsets < steps, ordered.shape)

    def _is_gone(self, segments: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a segment's first step, which is its oldest, was overwritten."""
        starts = self._segment_starts[segments % len(self._segment_starts)]
        return self._order[starts % len(self._order)] < self.arrived - self.capacity

    def _drop_old_segments(self) -> None:
        while self._first_segment < self._next_segment:
            block = np.arange(self._first_segment, min(self._first_segment + 256, self._next_segment))
            gone = self._is_gone(block)
            drop = len(block) if gone.all() else int(np.argmin(gone))
            self._first_segment += drop
            if drop < len(block):
                break
