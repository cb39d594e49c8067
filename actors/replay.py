"""The replay on Ray: the log, de-duplication and the rate limiter behind one actor."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from actors.role import Role, was_restarted
from m3pc_ray.config import RunConfig
from m3pc_ray.online.exploration import Task
from m3pc_ray.online.replay.fragments import Fragment
from m3pc_ray.online.replay_role import make_keeper


class ReplayActor(Role):
    """An async actor: fragments of several workers share one sync of the disk, and none is acknowledged before it.

    Loads no model. The arguments are those of `make_keeper`. Where Ray has restarted this actor, the workers live on
    and go on with their open episodes; otherwise the run starts, and open episodes are closed as cut.
    """

    def __init__(self, run_path: str, config: RunConfig, task: Task, updates: dict[str, int]) -> None:
        self._keeper = make_keeper(run_path, config, task, updates, close_orphans=not was_restarted())
        self._unsynced: list[asyncio.Future[None]] = []
        self._syncing: asyncio.Task[None] | None = None
        self._syncs, self._sync_seconds, self._since = 0, 0.0, time.monotonic()

    def values(self) -> dict[str, float]:
        """Of the log and, since the last question, of its syncs."""
        status, elapsed = self._keeper.status(), max(time.monotonic() - self._since, 1e-9)
        values = {name: float(status[name]) for name in ("fragments_in_memory", "log_bytes", "log_files")}
        values |= {
            "sync_share": self._sync_seconds / elapsed,
            "sync_ms": 1000.0 * self._sync_seconds / max(self._syncs, 1),
        }
        self._syncs, self._sync_seconds, self._since = 0, 0.0, time.monotonic()
        return values

    async def new_incarnation(self, worker: int) -> int:
        """A number for a worker process that starts; episodes of its earlier starts are closed, see `ReplayKeeper`."""
        return self._keeper.new_incarnation(worker)

    async def worker_steps(self, worker: int) -> int:
        """Steps of a worker in the log, over all its starts; once this returns they survive a power loss."""
        await self._all_synced()
        return self._keeper.worker_steps(worker)

    async def add(self, fragments: list[Fragment]) -> int:
        """Keep fragments; once this returns they survive a power loss. Returns the steps that were new."""
        steps = self._keeper.append(fragments)
        await self._synced()
        return steps

    async def read(self, start: int) -> list[Fragment]:
        """Fragments from number `start` on, a limited number of them, none of which could still be lost."""
        await self._all_synced()
        return self._keeper.read(start)

    async def exchange(self, start: int, updates: dict[str, int]) -> tuple[list[Fragment], dict[str, int]]:
        """The learner's call, see `ReplayKeeper.exchange`; it never learns from what could still be lost."""
        await self._all_synced()
        return self._keeper.exchange(start, updates)

    async def status(self, rollouts_wait: bool = False) -> dict[str, Any]:
        """Counters; the caller tells whether rollouts stand still now because of the limiter."""
        self._keeper.limiter.note_step_wait(rollouts_wait)
        return self._keeper.status()

    async def close(self) -> None:
        """End the log file properly."""
        await self._synced()
        self._keeper.close()

    async def _all_synced(self) -> None:
        """Wait until nothing that was appended before is still unsynced."""
        if self._unsynced or self._syncing is not None:
            await self._synced()

    async def _synced(self) -> None:
        """Wait for a sync that begins after this call."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._unsynced.append(future)
        if self._syncing is None:
            self._syncing = loop.create_task(self._sync_groups())
        await future

    async def _sync_groups(self) -> None:
        while self._unsynced:
            group, self._unsynced = self._unsynced, []
            started = time.monotonic()
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._keeper.sync)
            except Exception as error:
                for future in group:
                    future.set_exception(error)
            else:
                for future in group:
                    future.set_result(None)
            self._syncs += 1
            self._sync_seconds += time.monotonic() - started
        self._syncing = None
