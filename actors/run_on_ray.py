"""An online run on Ray, from whatever cluster there is to how it ends."""

from __future__ import annotations

import ray

from actors.cluster import ray_session
from actors.online_run import OnlineRun
from actors.placement import RoleBundles
from actors.role import root_cause
from m3pc_ray.errors import UserError
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.run_folder import RunFolder


def run_on_ray(
    run: RunFolder,
    progress: OnlineProgress,
    stop: StopRequest,
    learner_delay: float = 0.0,
    bundles: RoleBundles | None = None,
) -> None:
    """Bring a finetuning run to its end on Ray, from wherever its folder stands.

    Args:
        run: made by `preparation.prepare`, or interrupted before.
        progress: receives counters, episodes and evaluations.
        stop: ends the run in an orderly way, with a checkpoint.
        learner_delay: seconds of sleep after every update, to try a slow learner on purpose.
        bundles: places of the roles in the placement group of the calling actor; None: anywhere in the cluster.

    Raises:
        UserError: no cluster answers, the roles do not fit it, a role keeps dying, nothing moves any more, the disk is
            full, or training diverged.
        KeyboardInterrupt: a stop was requested; a checkpoint was written first.
    """
    progress.notice = "starting Ray"
    with ray_session():
        online_run = OnlineRun(run, progress, stop, learner_delay, bundles)
        state = "failed"
        try:
            online_run.start()
            online_run.train()
            state = "finished"
        except KeyboardInterrupt:
            state = "interrupted"
            raise
        except ray.exceptions.RayError as error:
            cause = root_cause(error)
            if isinstance(cause, UserError):
                raise cause from None
            raise
        finally:
            online_run.end(state)
