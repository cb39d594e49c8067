"""Whether waypoints can be met: their distance from each other against the data's changes, and the time there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.environments.observation_names import Dimension
from m3pc_ray.errors import UserError
from m3pc_ray.goals.waypoints import Waypoints
from m3pc_ray.trajectories.episodes import Trajectories

PERCENTILE = 99.9
FEWEST_PAIRS = 1000
"""With fewer, the 99.9th percentile would be little but the largest of them: nothing is said then."""
MOST_PAIRS = 100_000
"""For each span; of more, so many are drawn."""


def reachable_changes(
    trajectories: Trajectories, spans: Iterable[int], seed: int = 0
) -> dict[int, NDArray[np.float32]]:
    """How far the data goes in so many steps.

    Args:
        trajectories: the data.
        spans: numbers of steps n, at least 1 each.
        seed: of the drawing of pairs, where there are more than MOST_PAIRS.

    Returns:
        For every span n the (observation_dim,) 99.9th percentiles of |s_{k+n} - s_k| over pairs within an episode, raw
        units. A span for which the data has fewer than FEWEST_PAIRS pairs is left out.
    """
    row = np.arange(trajectories.num_steps)
    steps_left = np.repeat(trajectories.episode_starts[1:], trajectories.lengths) - 1 - row  # in the row's own episode
    changes = {}
    for span in sorted(set(spans)):
        if span < 1:
            raise ValueError(f"a span of {span} steps; at least 1 is needed")
        first = np.flatnonzero(steps_left >= span)
        if len(first) < FEWEST_PAIRS:
            continue
        if len(first) > MOST_PAIRS:
            # keyed by the span too, so that its figure does not depend on which others were asked for
            first = np.random.default_rng([seed, span]).choice(first, MOST_PAIRS, replace=False)
        change = np.abs(trajectories.observations[first + span] - trajectories.observations[first])
        changes[span] = np.percentile(change, PERCENTILE, axis=0).astype(np.float32)
    return changes


def spacing_warnings(waypoints: Waypoints, trajectories: Trajectories, names: Sequence[Dimension]) -> list[str]:
    """Consecutive waypoints that are further apart than the data goes in the steps between them.

    Compares the dimensions that both fix. One message for each dimension, about its worst pair and the number of such
    pairs; `names` are the (observation_dim,) entries of the observation. Of a span that the data hardly has, nothing is
    said. Raises UserError where waypoints and data differ in dimension.
    """
    if waypoints.observation_dim != trajectories.observation_dim:
        raise UserError(
            f"{waypoints.source}: waypoints have {waypoints.observation_dim} dimensions, the observations of "
            f"{trajectories.metadata.name} have {trajectories.observation_dim}"
        )
    spans = np.diff(waypoints.steps)  # (K - 1,)
    changes = np.abs(np.diff(waypoints.states, axis=0))  # (K - 1, observation_dim); NaN unless both fix it
    limits = np.full_like(changes, np.nan)
    for span, limit in reachable_changes(trajectories, spans.tolist()).items():
        limits[spans == span] = limit
    too_far = changes > limits  # False where either is NaN
    messages = []
    for index in np.flatnonzero(too_far.any(axis=0)).tolist():
        pairs = np.flatnonzero(too_far[:, index])
        with np.errstate(divide="ignore"):  # a dimension that never changes in the data: infinitely too far
            worst = pairs[np.argmax(changes[pairs, index] / limits[pairs, index])]
        dimension, span = names[index], spans[worst]
        unit = f" {dimension.unit}" if dimension.unit else ""
        steps = f"{span} step{'s' if span > 1 else ''}"
        others = f" (the worst of {len(pairs)} such pairs)" if len(pairs) > 1 else ""
        messages.append(
            f"waypoints {worst + 1} to {worst + 2}: {dimension.name} changes by {changes[worst, index]:.3g}{unit} in "
            f"{steps}; {PERCENTILE:g} % of the data's changes in {steps} are below "
            f"{limits[worst, index]:.3g}{unit}{others}"
        )
    return messages


def coverage_warnings(waypoints: Waypoints, time_limit: int) -> list[str]:
    """Waypoints that an episode has no time for, or that there is only one.

    `time_limit` is the environment's, in steps; 0: none known, nothing is said.
    Raises UserError where no waypoint is due within the time limit.
    """
    if time_limit <= 0:
        return []
    steps, count = waypoints.steps, len(waypoints)
    within = int(np.searchsorted(steps, time_limit, side="right"))
    if within == 0:
        raise UserError(
            f"{waypoints.source}: the first waypoint is due at step {steps[0]}, after the environment's time limit of "
            f"{time_limit} steps"
        )
    messages = []
    if within < count:
        late = f"waypoint {count} is" if within == count - 1 else f"waypoints {within + 1} to {count} are"
        messages.append(f"{late} due after the environment's time limit of {time_limit} steps and will not be measured")
    if within == 1:
        only = f"only one waypoint is due within the time limit of {time_limit} steps, at step {steps[0]}"
        messages.append(only)
    return messages
