"""Summaries of a handful of episodes: mean, standard error, bootstrap interval."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BOOTSTRAP_RESAMPLES = 10_000


def resample(values: npt.ArrayLike, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """(BOOTSTRAP_RESAMPLES, n): as many draws with replacement of `values` (n,)."""
    sample = np.asarray(values, dtype=np.float64)
    return sample[generator.integers(0, len(sample), (BOOTSTRAP_RESAMPLES, len(sample)))]


def percentile_interval(statistics: npt.NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """The middle `confidence` of a statistic's values over all resamples (n,)."""
    low, high = np.quantile(statistics, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap_interval(values: npt.ArrayLike, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` (n,); seeded, so that the same episodes give the same."""
    return percentile_interval(resample(values, np.random.default_rng(seed)).mean(axis=1), confidence)


def describe(prefix: str, values: npt.ArrayLike | None) -> dict[str, float | None]:
    """`prefix`_mean, _sem, _std, _min, _max, _low, _high of `values` (n,); all None when there are no values.

    _sem is the standard error of the mean (0 with a single value), _std the sample standard deviation, _low and _high
    the 95 % bootstrap interval of the mean.
    """
    names = ("mean", "sem", "std", "min", "max", "low", "high")
    if values is None:
        return {f"{prefix}_{name}": None for name in names}
    sample = np.asarray(values, dtype=np.float64)
    deviation = float(sample.std(ddof=1)) if len(sample) > 1 else 0.0
    low, high = bootstrap_interval(sample)
    numbers = (sample.mean(), deviation / np.sqrt(len(sample)), deviation, sample.min(), sample.max(), low, high)
    return {f"{prefix}_{name}": float(number) for name, number in zip(names, numbers, strict=True)}
