"""Whole states for waypoints that fix only some dimensions, taken from the data.

A waypoint that fixes two entries of a state leaves open what the rest of the body does, and a path needs all of it. The
data knows postures that go together; this looks for a sequence of its states that has the fixed entries and goes on in
the data as it goes on in the sequence, with as few and as small jumps between places of the data as possible:

    sum over waypoints k of   fidelity * mean square over fixed entries (x_k - wanted_k)
                            + mean square over all entries (where the data goes from x_{k-1} in that time - x_k)

in standard deviations: the shortest path through layers of candidates, by dynamic programming. Candidates of a waypoint
are the states that fit it best, and those to which the data leads from the candidates before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.episodes import Trajectories

CANDIDATES = 300
"""States kept of those that fit a waypoint best, and at most twice as many in all."""


@dataclass(frozen=True)
class Stitched:
    """A sequence of states of the data."""

    states: NDArray[np.float32]
    """(K, observation_dim), raw units, as they stand in the data."""
    rows: NDArray[np.int64]
    """(K,), their rows in the data."""
    jumps: int
    """Times that a state is not where the data leads from the one before."""


def stitch(
    steps: NDArray[np.int64],
    wanted: NDArray[np.float32],
    start: NDArray[np.float32],
    trajectories: Trajectories,
    std: NDArray[np.float32],
    fidelity: float = 1.0,
    candidates: int = CANDIDATES,
) -> Stitched:
    """States of the data for waypoints that fix only some dimensions.

    Args:
        steps: (K,), when each is due, rising, from 1 on.
        wanted: (K, observation_dim), NaN where free; a row may be all free.
        start: (observation_dim,), where an episode starts.
        trajectories: the data.
        std: (observation_dim,), the unit of differences.
        fidelity: what a mismatch of the fixed dimensions costs, against a jump of the same size.
        candidates: see `CANDIDATES`.

    Raises:
        UserError: no episode of the data is long enough to go on from one waypoint to the next.
    """
    observations = trajectories.observations / std
    last_rows = np.repeat(trajectories.episode_starts[1:] - 1, trajectories.lengths)
    targets, few = wanted / std, min(candidates, len(observations))
    layer = _best(np.square(observations - start / std).mean(axis=1), few)
    cost = np.square(observations[layer] - start / std).mean(axis=1)
    layers, choices, before = [layer], [], 0
    for step, target in zip(steps, targets, strict=True):
        gap, before = int(step - before), int(step)
        going_on = layer + gap <= last_rows[layer]
        if not going_on.any():
            raise UserError(
                f"the data has no episode that goes on for {gap} steps where a waypoint's states are; set waypoints "
                "closer together, or fix more dimensions"
            )
        layer, cost, led_to = layer[going_on], cost[going_on], layer[going_on] + gap
        following, chosen, cost = _extend(observations, led_to, cost, target, fidelity, few)
        choices.append(np.flatnonzero(going_on)[chosen])
        layers.append(following)
        layer = following
    index = int(cost.argmin())
    rows = np.empty(len(steps), dtype=np.int64)
    for k in range(len(steps) - 1, -1, -1):
        rows[k] = layers[k + 1][index]
        index = int(choices[k][index])
    jumps = int((np.diff(rows) != np.diff(steps)).sum())
    return Stitched(trajectories.observations[rows], rows, jumps)


def _extend(
    observations: NDArray[np.float32],
    led_to: NDArray[np.int64],
    cost: NDArray[np.float64],
    target: NDArray[np.float32],
    fidelity: float,
    candidates: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The next layer: its rows, for each the index of the best one before, and the cost up to it.

    `led_to` (candidates before,) are the rows to which the data leads from the layer before, `cost` theirs.
    """
    fixed = ~np.isnan(target)
    if fixed.any():
        mismatch = fidelity * np.square(observations[:, fixed] - target[fixed]).mean(axis=1)
    else:
        mismatch = np.zeros(len(observations))
    rows = np.unique(np.concatenate([_best(mismatch, candidates), led_to]) if fixed.any() else led_to)
    ends = observations[led_to]
    squares = np.square(ends).sum(axis=1)[:, None] + np.square(observations[rows]).sum(axis=1)
    jump = np.maximum(squares - 2 * ends @ observations[rows].T, 0.0) / observations.shape[1]
    jump[led_to[:, None] == rows] = 0.0  # exactly: no jump
    total = cost[:, None] + jump
    chosen = total.argmin(axis=0)
    reached = total[chosen, np.arange(len(rows))] + mismatch[rows]
    kept = np.sort(_best(reached, min(2 * candidates, len(rows))))
    return rows[kept], chosen[kept], reached[kept]


def _best(costs: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Indices of the `count` lowest."""
    return np.argpartition(costs, count - 1)[:count]
