"""Forward dynamics in units that every variant shares.

A run's own errors are in units of the variance of what it learnt from, which is another one where that is a part of the
data. Here all are in units of the whole data set's variance, so that rows of a table can be compared.
"""

from __future__ import annotations

import numpy as np

from m3pc_ray.evaluation.capabilities.dynamics import WINDOWS
from m3pc_ray.evaluation.capabilities.windows import predict, sample_windows
from m3pc_ray.evaluation.held_out import check_sizes
from m3pc_ray.model.masks import forward_dynamics
from m3pc_ray.training.assemble import Models
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.statistics import compute_statistics


def shared_dynamics_errors(models: Models, trajectories: Trajectories, held_out: Trajectories) -> dict[str, float]:
    """`dynamics/<k>` for k = 1..T-1 steps ahead under the forward-dynamics mask, current step t = 0.

    Mean squared errors of the states of `held_out`, in units of the variance of all of `trajectories`; on the same
    windows for every run with the same window length.
    Raises UserError where the data's sizes are not the run's, or no held-out episode is as long as a window.
    """
    check_sizes(models, trajectories)
    windows = sample_windows(models, held_out, WINDOWS, 0)
    length = models.model.config.segment_length
    data = models.config.data
    whole = compute_statistics(trajectories, data.return_scale, models.time_limit, data.smallest_state_std)
    unit = models.statistics.states_std.astype(np.float64) / whole.states_std  # (observation_dim,)
    states = predict(models.model, windows, forward_dynamics(length, 0)).states.cpu().numpy().astype(np.float64)
    errors = np.square((states - windows.array("states")) * unit).mean(axis=(0, 2))  # (T,)
    return {f"dynamics/{ahead}": float(errors[ahead]) for ahead in range(1, length)}
