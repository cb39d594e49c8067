"""One curve of several seeds: their mean where all of them are, with a band, and every seed for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from m3pc_ray.evaluation.statistics import bootstrap_interval
from m3pc_ray.report.metrics import FloatArray

MOST_POINTS = 240
"""Points of a curve: more than a screen shows; longer series are averaged in as many windows."""
FEW_SEEDS = 5
"""Below so many, bootstrap intervals over seeds are too narrow (docs/sweeps.md has the figures)."""

Series = tuple[FloatArray, FloatArray]
Band = Literal["range", "interval"]


@dataclass(frozen=True)
class Curve:
    """x and mean (n,); low and high (n,) where there is a band; the single seeds, where there are several."""

    x: FloatArray
    mean: FloatArray
    low: FloatArray | None
    high: FloatArray | None
    seeds: tuple[Series, ...]


def combine(seeds: Sequence[Series], band: Band = "range") -> Curve:
    """The mean of at least one series over its own steps, or over those that all seeds have behind them.

    Seeds with other steps are interpolated linearly between their own. `band` of several seeds is from the lowest to
    the highest (`range`) or the 95 % bootstrap interval of the mean (`interval`). Where the seeds have no step in
    common the mean is empty.
    """
    seeds = [last_of_each(series) for series in seeds]
    if len(seeds) == 1:
        return Curve(*seeds[0], None, None, ())
    first = max(x[0] for x, _ in seeds)
    last = min(x[-1] for x, _ in seeds)
    x = np.unique(np.concatenate([x for x, _ in seeds]))
    x = x[(x >= first) & (x <= last)]
    if len(x) > MOST_POINTS:
        x = x[np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int))]
    values = np.stack([np.interp(x, *series) for series in seeds])  # (seeds, n)
    if band == "range":
        low, high = values.min(axis=0), values.max(axis=0)
    else:
        ends = np.array([bootstrap_interval(column) for column in values.T]).reshape(-1, 2)
        low, high = ends[:, 0], ends[:, 1]
    return Curve(x, values.mean(axis=0), low, high, tuple(seeds))


def last_of_each(series: Series) -> Series:
    """The series with the last of the values that stand at one x."""
    x, y = series
    keep = np.append(x[1:] != x[:-1], True) if len(x) else np.zeros(0, bool)
    return x[keep], y[keep]


def thinned(series: Series, points: int = MOST_POINTS) -> Series:
    """At most so many points, each the mean of a window of neighbours."""
    x, y = series
    if len(x) <= points:
        return x, y
    windows = np.array_split(np.arange(len(x)), points)
    return np.array([x[window].mean() for window in windows]), np.array([y[window].mean() for window in windows])
