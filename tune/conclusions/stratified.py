"""A setting's mean over tasks with its stratified bootstrap interval, after rliable (Agarwal et al. 2021, 2108.13264).

A replicate is one (run, seed) pair, a task one (environment, dataset) pair. As in the paper, replicates are resampled
with replacement within every task, never across tasks, and the interval is the percentile interval of the statistic
over the resamples. Two statistics:

mean    the mean over tasks of the mean over the task's replicates: with as many replicates in every task, as the paper
        has, its "mean"; with unequal numbers every task still weighs the same
iqm     the paper's interquartile mean: replicates of all tasks together, a quarter of them (rounded down) cut off at
        either end; with fewer than four it is their plain mean, and tasks weigh by their replicates

Resampled replicates count as independent. Pairs that share a pretrained run are not quite, so that the interval then
says little about how another pretraining would have come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from m3pc_ray.evaluation.statistics import percentile_interval, resample

Statistic = Literal["mean", "iqm"]
STATISTICS: tuple[Statistic, ...] = ("mean", "iqm")
Source = Literal["seeds", "episodes"]
FloatArray = npt.NDArray[np.float64]
Task = tuple[str, str]
TRIMMED = 0.25
"""Share of the replicates that the interquartile mean cuts off at either end."""


@dataclass(frozen=True)
class Replicate:
    """What one (run, seed) pair earned with a setting."""

    run: str
    seed: int
    task: Task
    """Environment and data set."""
    value: float
    """Mean normalised score, or mean return, over the episodes."""
    episodes: FloatArray
    """(episodes,) their scores or returns; empty where they are not known."""

    @property
    def pair(self) -> tuple[str, int]:
        return self.run, self.seed


@dataclass(frozen=True)
class Estimate:
    """A statistic and its 95 % interval."""

    value: float
    interval: tuple[float, float] | None = None
    """Low and high; None where nothing can be resampled: one episode of one seed."""
    over: Source | None = None
    """What was resampled. Episodes of fixed replicates say nothing about the spread between seeds."""


def estimate(replicates: Sequence[Replicate], statistic: Statistic = "mean", seed: int = 0) -> Estimate:
    """The statistic of at least one replicate, and its interval over what `interval_source` says; seeded."""
    value = float(_aggregate([values[np.newaxis] for values in _by_task(replicates)], statistic)[0])
    source = interval_source(replicates)
    if source is None:
        return Estimate(value)
    return Estimate(value, percentile_interval(_resampled(replicates, statistic, source, seed)), source)


def difference(
    first: Sequence[Replicate], second: Sequence[Replicate], statistic: Statistic = "mean", seed: int = 0
) -> Estimate:
    """The statistic of `first` less that of `second`, paired: entry i of both is of the same run, seed and task.

    A resample takes the same pairs of both; over episodes, the same episodes of both, since equal seeds play the same
    episodes (where their numbers differ they are drawn apart).
    """
    value = estimate(first, statistic).value - estimate(second, statistic).value
    sources = {interval_source(first), interval_source(second)}
    source = sources.pop() if len(sources) == 1 else None
    if source is None:
        return Estimate(value)
    # Equal seeds draw equal places, which is what pairs the two.
    ours, theirs = (_resampled(replicates, statistic, source, seed) for replicates in (first, second))
    return Estimate(value, percentile_interval(ours - theirs), source)


def interval_source(replicates: Sequence[Replicate]) -> Source | None:
    """Seeds where every task has two replicates or more; else episodes, where every replicate has two or more."""
    if all(len(values) > 1 for values in _by_task(replicates)):
        return "seeds"
    if all(len(replicate.episodes) > 1 for replicate in replicates):
        return "episodes"
    return None


def _by_task(replicates: Sequence[Replicate]) -> list[FloatArray]:
    tasks = dict.fromkeys(replicate.task for replicate in replicates)
    return [np.array([each.value for each in replicates if each.task == task], dtype=np.float64) for task in tasks]


def _resampled(replicates: Sequence[Replicate], statistic: Statistic, source: Source, seed: int) -> FloatArray:
    """(resamples,) values of the statistic."""
    generator = np.random.default_rng(seed)
    if source == "seeds":
        return _aggregate([resample(values, generator) for values in _by_task(replicates)], statistic)
    means = {id(each): resample(each.episodes, generator).mean(axis=1) for each in replicates}
    tasks = dict.fromkeys(replicate.task for replicate in replicates)
    columns = [np.stack([means[id(each)] for each in replicates if each.task == task], axis=1) for task in tasks]
    return _aggregate(columns, statistic)


def _aggregate(tasks: Sequence[FloatArray], statistic: Statistic) -> FloatArray:
    """(resamples,) of one array (resamples, replicates) a task."""
    if statistic == "mean":
        return np.mean([values.mean(axis=1) for values in tasks], axis=0)
    together = np.sort(np.concatenate(tasks, axis=1), axis=1)
    cut = int(TRIMMED * together.shape[1])
    return together[:, cut : together.shape[1] - cut].mean(axis=1)
