"""The replay role: log, de-duplication and rate limiter; hands accepted fragments to the learner in order."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.episode_register import EpisodeRegister
from m3pc_ray.online.replay.fragments import GOES_ON, EpisodeKey, Fragment, closing_fragment
from m3pc_ray.online.replay.rate_limiter import RateLimiter
from m3pc_ray.online.replay.replay_log import LOG_FILE_BYTES, ReplayLog
from m3pc_ray.online.replay.replay_notes import load_incarnations, load_times, save_incarnations, save_times
from m3pc_ray.trajectories.episodes import EpisodeEnd

SAVE_SECONDS = 5.0
"""Between two writes of the limiter's times."""


class ReplayKeeper:
    """Accepts fragments, each exactly once, and remembers them on disk before it answers.

    On construction it rebuilds itself from the folder's log: a half-written tail is dropped, steps are counted into the
    limiter. Fragments are numbered from 0 in the order they were accepted; a learner reads from any number on.

    Args:
        folder: RUN/replay.
        limiter: counts the run's steps and updates.
        observation_dim, action_dim: lengths of vectors.
        close_orphans: close open episodes as cut, because the run starts and nobody goes on with them. Not where only
            this role was restarted: the workers live on, and send again what was not acknowledged.
        log_file_bytes: size from which a new log file is begun.

    Raises:
        UserError: the folder cannot be read or written, or holds what is no log of this run.
    """

    def __init__(
        self,
        folder: Path,
        limiter: RateLimiter,
        observation_dim: int,
        action_dim: int,
        *,
        close_orphans: bool = True,
        log_file_bytes: int = LOG_FILE_BYTES,
    ) -> None:
        self.folder = folder
        self.limiter = limiter
        self.duplicates = 0
        self._register = EpisodeRegister()
        self._closings: dict[EpisodeKey, Fragment] = {}
        """What would close each open episode."""
        self._recent: list[Fragment] = []
        self._log = ReplayLog(folder, observation_dim, action_dim, file_bytes=log_file_bytes)
        self._restore()
        self._first_recent = self._log.num_fragments
        load_times(folder, limiter)
        self._times_saved = time.monotonic()
        for worker, incarnation in load_incarnations(folder).items():
            self._register.note_incarnation(worker, incarnation)
        self._register.keep_newest()
        if close_orphans:
            self._close_episodes(self._register.newest_incarnations())

    @property
    def num_fragments(self) -> int:
        """Fragments accepted so far."""
        return self._log.num_fragments

    @property
    def dropped_tail_bytes(self) -> int:
        """Half-written bytes that were dropped when the log was opened."""
        return self._log.dropped_tail_bytes

    def new_incarnation(self, worker: int) -> int:
        """A number that no earlier start of this worker had, for a worker process that starts now.

        Open episodes of its earlier starts are closed as cut, on the disk when this returns; whatever of them still
        arrives is dropped.

        Raises:
            UserError: the disk is full or failed.
        """
        newest = self._register.newest_incarnations()
        number = newest.get(worker, -1) + 1
        save_incarnations(self.folder, newest | {worker: number})
        self._close_episodes([worker])
        self._register.note_incarnation(worker, number)
        return number

    def worker_steps(self, worker: int) -> int:
        """Steps of a worker in the log, over all its incarnations.

        Of a worker that died, ask after `new_incarnation`: nothing late can be added to them then.
        """
        return self._register.worker_steps.get(worker, 0)

    def append(self, fragments: Sequence[Fragment]) -> int:
        """Write fragments to the log (call `sync` before acknowledging); returns the steps accepted.

        Fragments that the log has, and those of a worker's earlier incarnations, are dropped and counted.

        Raises:
            ValueError: a fragment that does not continue its episode where the log has it: something was lost; or more
                steps than the run has. Nothing was written then.
            UserError: the disk is full or failed. Nothing was accepted then; what came may be sent again.
        """
        accepted = self._new_ones(fragments)
        steps = sum(fragment.num_steps for fragment in accepted)
        self.limiter.check_steps(steps)
        if accepted:
            self._write(accepted)
        self.duplicates += len(fragments) - len(accepted)
        self.limiter.record_steps(steps)
        return steps

    def sync(self) -> None:
        """Force everything appended before this call to the disk; may run beside `append`, in another thread.

        Raises:
            UserError: the disk failed; nothing more is accepted then.
        """
        self._log.sync()

    def read(self, start: int, limit: int = 1000) -> list[Fragment]:
        """At most `limit` fragments from number `start` on; those no longer in memory come from the log."""
        if start >= self._first_recent:
            first = start - self._first_recent
            return self._recent[first : first + limit]
        return self._log.read(start, limit)

    def exchange(
        self, start: int, updates: Mapping[str, int], limit: int = 1000
    ) -> tuple[list[Fragment], dict[str, int]]:
        """The learner's call: it has all fragments before `start` and has done `updates` in all.

        Returns:
            The next fragments, and how many updates of each kind it may do now.
        """
        self.limiter.record_updates(updates)
        forget = min(start - self._first_recent, len(self._recent))
        if forget > 0:
            del self._recent[:forget]
            self._first_recent += forget
        self._save_times()
        return self.read(start, limit), self.limiter.permitted_updates()

    def status(self) -> dict[str, Any]:
        """Counters for the driver."""
        self._save_times()
        return {
            "steps": self.limiter.steps,
            "updates": dict(self.limiter.updates),
            "step_limit": self.limiter.step_limit(),
            "finished": self.limiter.finished,
            "fragments": self.num_fragments,
            "fragments_in_memory": len(self._recent),
            "open_episodes": len(self._closings),
            "duplicates": self.duplicates,
            "waiting": self.limiter.waiting_fractions(),
            "log_files": self._log.num_files,
            "log_bytes": self._log.num_bytes,
        }

    def close(self) -> None:
        """End the log file properly."""
        self._save_times(now=True)
        self._log.close()

    def _new_ones(self, fragments: Sequence[Fragment]) -> list[Fragment]:
        accepted: list[Fragment] = []
        ends: dict[EpisodeKey, int | None] = {}  # where episodes stand once the accepted ones are written
        for fragment in fragments:
            key, stop = fragment.key, fragment.offset + fragment.num_steps
            expected = ends[key] if key in ends else self._register.next_step(key)
            if expected is None:
                continue
            if stop <= expected and (fragment.end is None or fragment.offset < expected):
                continue
            if fragment.offset != expected:
                raise ValueError(f"{key}: a fragment starts at step {fragment.offset}, the log ends at step {expected}")
            accepted.append(fragment)
            ends[key] = stop if fragment.end is None else None
        return accepted

    def _write(self, fragments: Sequence[Fragment]) -> None:
        self._log.append(fragments)
        # Decisions are in the log for whoever asks; no learner does, and they are most of a fragment's bytes.
        self._recent.extend(replace(fragment, decisions=None) for fragment in fragments)
        for fragment in fragments:
            self._register.record(fragment.key, fragment.num_steps, fragment.end is not None)
            if fragment.end is None:
                self._closings[fragment.key] = closing_fragment(fragment, EpisodeEnd.CUT)
            else:
                self._closings.pop(fragment.key, None)

    def _close_episodes(self, workers: Mapping[int, int] | Sequence[int]) -> None:
        """Close everything of the workers' incarnations so far, on the disk too."""
        orphans = [self._closings[key] for worker in workers for key in self._register.retire(worker)]
        if orphans:
            self._write(orphans)
            self.sync()

    def _restore(self) -> None:
        """Fill register and limiter from the log."""
        last: dict[EpisodeKey, int] = {}  # number of the newest fragment of every open episode
        number = steps = 0
        for batch in self._log.restore():
            names = ("worker", "incarnation", "episode", "offset", "end")
            columns = (batch.column(name).to_pylist() for name in names)
            lengths = np.diff(batch.column("rewards").offsets.to_numpy()).tolist()
            for worker, incarnation, episode, offset, end, length in zip(*columns, lengths, strict=True):
                key = EpisodeKey(worker, incarnation, episode)
                expected = self._register.next_step(key)
                if offset != expected:
                    after = "its end" if expected is None else f"{expected} steps"
                    raise UserError(
                        f"{self.folder}: the files of the log do not belong together: after {after} comes "
                        f"step {offset} of {key}"
                    )
                self._register.record(key, length, end != GOES_ON)
                if end == GOES_ON:
                    last[key] = number
                else:
                    last.pop(key, None)
                number += 1
                steps += length
        for key, place in last.items():
            self._closings[key] = closing_fragment(self._log.read(place, 1)[0], EpisodeEnd.CUT)
        self.limiter.steps = 0
        try:
            self.limiter.record_steps(steps)
        except ValueError:
            total = self.limiter.total_steps
            raise UserError(f"{self.folder}: the log has {steps} steps, but online.steps is {total}") from None

    def _save_times(self, now: bool = False) -> None:
        if now or time.monotonic() - self._times_saved > SAVE_SECONDS:
            self._times_saved = time.monotonic()
            save_times(self.folder, self.limiter)
