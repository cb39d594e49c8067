"""The replay role: log, de-duplication and rate limiter; hands accepted fragments to the learner in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from m3pc_ray.config import RunConfig
from m3pc_ray.online.exploration import Task
from m3pc_ray.online.fragments import EpisodeKey, Fragment, closing_fragment
from m3pc_ray.online.rate_limiter import RateLimiter
from m3pc_ray.online.replay_log import ReplayLogWriter, drop_half_written_tail, log_files, read_log
from m3pc_ray.trajectories.episodes import EpisodeEnd


class ReplayKeeper:
    """Accepts fragments, each exactly once, and remembers them on disk before it answers.

    On construction it rebuilds itself from the folder's log: a half-written tail is dropped, episodes that were open
    are closed as cut (their workers are gone), steps are counted into the limiter. Fragments are numbered from 0 in
    the order they were accepted; a learner reads from any number on.

    Args:
        folder: RUN/replay.
        limiter: counts the run's steps and updates.
        observation_dim, action_dim: lengths of vectors.
    """

    def __init__(self, folder: Path, limiter: RateLimiter, observation_dim: int, action_dim: int) -> None:
        self.folder = folder
        self.limiter = limiter
        self.duplicates = 0
        self.dropped_tail_bytes = sum(drop_half_written_tail(path) for path in log_files(folder))
        self._open: dict[EpisodeKey, Fragment] = {}
        self._closed: set[EpisodeKey] = set()
        self._incarnations: dict[int, int] = {}
        self._recent: list[Fragment] = []
        self._first_recent = 0
        steps = 0
        for fragment in read_log(folder):
            self._register(fragment)
            self._first_recent += 1
            steps += fragment.num_steps
        limiter.steps = 0
        limiter.record_steps(steps)
        self._writer = ReplayLogWriter(folder, observation_dim, action_dim)
        orphans = [closing_fragment(last, EpisodeEnd.CUT) for last in self._open.values()]
        if orphans:
            self.append(orphans)
            self.sync()

    @property
    def num_fragments(self) -> int:
        """Fragments accepted so far."""
        return self._first_recent + len(self._recent)

    def new_incarnation(self, worker: int) -> int:
        """A number no earlier start of this worker has used; episodes of a worker that died stay apart by it."""
        self._incarnations[worker] = self._incarnations.get(worker, -1) + 1
        return self._incarnations[worker]

    def append(self, fragments: Sequence[Fragment]) -> int:
        """Write fragments to the log (call `sync` before acknowledging); returns the steps accepted.

        Raises:
            ValueError: a fragment that does not continue its episode where the log has it: something was lost.
        """
        accepted = [fragment for fragment in fragments if self._is_new(fragment)]
        self.duplicates += len(fragments) - len(accepted)
        if not accepted:
            return 0
        self._writer.append(accepted)
        self._recent.extend(accepted)
        steps = sum(fragment.num_steps for fragment in accepted)
        self.limiter.record_steps(steps)
        return steps

    def sync(self) -> None:
        """Force everything appended to the disk."""
        self._writer.sync()

    def read(self, start: int, limit: int = 1000) -> list[Fragment]:
        """At most `limit` fragments from number `start` on; those no longer in memory come from the log."""
        if start >= self._first_recent:
            first = start - self._first_recent
            return self._recent[first : first + limit]
        fragments = []
        for number, fragment in enumerate(read_log(self.folder)):
            if number >= start:
                fragments.append(fragment)
            if len(fragments) == limit:
                break
        return fragments

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
        return self.read(start, limit), self.limiter.permitted_updates()

    def status(self) -> dict[str, Any]:
        """Counters for the driver."""
        return {
            "steps": self.limiter.steps,
            "updates": dict(self.limiter.updates),
            "step_limit": self.limiter.step_limit(),
            "finished": self.limiter.finished,
            "fragments": self.num_fragments,
            "fragments_in_memory": len(self._recent),
            "open_episodes": len(self._open),
            "duplicates": self.duplicates,
            "waiting": self.limiter.waiting_fractions(),
        }

    def close(self) -> None:
        """End the log file properly."""
        self._writer.close()

    def _is_new(self, fragment: Fragment) -> bool:
        key = fragment.key
        if key in self._closed:
            return False
        last = self._open.get(key)
        expected = 0 if last is None else last.offset + last.num_steps
        if fragment.offset + fragment.num_steps <= expected and (fragment.end is None or fragment.offset < expected):
            return False
        if fragment.offset != expected:
            raise ValueError(f"{key}: a fragment starts at step {fragment.offset}, the log ends at step {expected}")
        self._register(fragment)
        return True

    def _register(self, fragment: Fragment) -> None:
        key = fragment.key
        self._incarnations[key.worker] = max(self._incarnations.get(key.worker, -1), key.incarnation)
        if fragment.end is None:
            self._open[key] = fragment
        else:
            self._open.pop(key, None)
            self._closed.add(key)


def make_keeper(run_path: str | Path, config: RunConfig, task: Task, updates: Mapping[str, int]) -> ReplayKeeper:
    """The replay of a run, rebuilt from its log.

    Args:
        run_path: the run folder.
        config: its settings.
        task: its environment.
        updates: what the learner has done at the checkpoint it starts from, by kind.
    """
    online = config.online
    ratios = {"btm": online.btm_updates_per_step, "critic": online.critic_updates_per_step}
    limiter = RateLimiter(online.steps, ratios, online.start_steps, online.rate_tolerance_steps)
    limiter.record_updates(updates)
    return ReplayKeeper(Path(run_path) / "replay", limiter, task.observation_dim, task.action_dim)
