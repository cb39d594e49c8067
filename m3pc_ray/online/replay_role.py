"""Makes the replay role of a run, which needs no torch: on Ray its process holds none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.online.exploration import Task
from m3pc_ray.online.replay.rate_limiter import RateLimiter
from m3pc_ray.online.replay.replay_keeper import ReplayKeeper


def make_keeper(
    run_path: str | Path, config: RunConfig, task: Task, updates: Mapping[str, int], *, close_orphans: bool = True
) -> ReplayKeeper:
    """The replay of a run, rebuilt from its log.

    Args:
        run_path: the run folder.
        config: its settings.
        task: its environment.
        updates: what the learner has done at the checkpoint it starts from, by kind.
        close_orphans: see `ReplayKeeper`.

    Raises:
        UserError: as `ReplayKeeper`; or the checkpoint has more updates than the run is to do.
    """
    online = config.online
    ratios = {"btm": online.btm_updates_per_step, "critic": online.critic_updates_per_step}
    limiter = RateLimiter(online.steps, ratios, online.start_steps, online.rate_tolerance_steps)
    try:
        limiter.record_updates(updates)
    except (ValueError, TypeError) as error:
        raise UserError(f"{run_path}: its checkpoint does not fit its settings: {error}") from error
    return ReplayKeeper(
        Path(run_path) / "replay",
        limiter,
        task.observation_dim,
        task.action_dim,
        close_orphans=close_orphans,
        log_file_bytes=online.log_file_megabytes * 2**20,
    )
