"""The bootstrap against a plain loop over the paper's words, and how often its intervals hold the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from m3pc_ray.evaluation.statistics import bootstrap_interval
from tune.conclusions.stratified import Replicate, Statistic, difference, estimate, interval_source

HOPPER, WALKER = ("Hopper-v5", "data"), ("Walker2d-v5", "data")


def replicates(task: tuple[str, str], values: Sequence[float], episodes: int = 0, seed: int = 0) -> list[Replicate]:
    """One a value; with `episodes` about each value, whose mean it then is."""
    generator = np.random.default_rng(seed)
    made = []
    for index, value in enumerate(values):
        noise = generator.normal(0.0, 4.0, episodes)
        played = value + noise - noise.mean() if episodes else np.empty(0)
        made.append(Replicate("run", index, task, float(value), played))
    return made


def plain_statistic(tasks: list[list[float]], statistic: Statistic) -> float:
    if statistic == "mean":
        return sum(sum(values) / len(values) for values in tasks) / len(tasks)
    together = sorted(value for values in tasks for value in values)
    cut = len(together) // 4
    middle = together[cut : len(together) - cut]
    return sum(middle) / len(middle)


def plain_interval(tasks: list[list[float]], statistic: Statistic, resamples: int) -> tuple[float, float]:
    generator = np.random.default_rng(99)
    found = []
    for _ in range(resamples):
        resampled = [[values[generator.integers(len(values))] for _ in values] for values in tasks]
        found.append(plain_statistic(resampled, statistic))
    found.sort()
    return found[int(0.025 * resamples)], found[int(0.975 * resamples)]


@pytest.mark.parametrize("statistic", ["mean", "iqm"])
@pytest.mark.parametrize("counts", [(4,), (3, 7), (2, 2, 9)])
def test_as_a_plain_loop_does_it(statistic: Statistic, counts: tuple[int, ...]) -> None:
    generator = np.random.default_rng(sum(counts))
    tasks = [list(generator.normal(50.0 * index, 10.0, count)) for index, count in enumerate(counts)]
    made = [each for index, values in enumerate(tasks) for each in replicates((str(index), "data"), values)]
    found = estimate(made, statistic)
    assert found.over == "seeds"
    assert found.value == pytest.approx(plain_statistic(tasks, statistic))
    assert found.interval is not None
    expected = plain_interval(tasks, statistic, 4000)
    spread = expected[1] - expected[0]
    assert found.interval == pytest.approx(expected, abs=0.08 * spread)
    shuffled = [made[index] for index in generator.permutation(len(made))]
    assert estimate(shuffled, statistic).value == pytest.approx(found.value)


def test_one_task_is_the_plain_bootstrap_of_evaluation() -> None:
    values = [70.0, 71.0, 74.0, 90.0]
    found = estimate(replicates(HOPPER, values))
    assert found.interval == bootstrap_interval(values)
    assert found == estimate(replicates(HOPPER, values)), "the same numbers give the same interval"


def test_tasks_weigh_the_same_and_are_not_mixed() -> None:
    made = [*replicates(HOPPER, [10.0] * 2), *replicates(WALKER, [90.0] * 8)]
    assert estimate(made).value == 50.0
    assert estimate(made).interval == (50.0, 50.0), "resampling across tasks would move the mean"
    assert estimate(made, "iqm").value == pytest.approx(90.0), "the interquartile mean pools: 2 of 10 are cut off"


def test_one_seed_has_an_interval_over_its_episodes_only() -> None:
    (single,) = replicates(HOPPER, [50.0], episodes=20)
    found = estimate([single])
    assert found.over == "episodes"
    assert found.value == 50.0
    assert found.interval == bootstrap_interval(single.episodes)
    assert estimate(replicates(HOPPER, [50.0], episodes=1)).interval is None
    assert estimate(replicates(HOPPER, [50.0])).over is None


def test_a_task_with_one_seed_makes_all_intervals_over_episodes() -> None:
    several, single = replicates(HOPPER, [40.0, 60.0, 80.0], episodes=10), replicates(WALKER, [20.0], episodes=10)
    assert interval_source(several) == "seeds"
    assert interval_source([*several, *single]) == "episodes"
    found = estimate([*several, *single])
    assert found.value == pytest.approx(40.0)
    assert found.interval is not None
    assert found.interval[1] - found.interval[0] < 8.0, "the seeds' spread is not in it"
    assert interval_source([*several, *replicates(WALKER, [20.0])]) is None


def test_a_paired_difference_leaves_out_what_pairs_share() -> None:
    shared = np.random.default_rng(3).normal(0.0, 20.0, 6)
    ours, theirs = replicates(HOPPER, list(50.0 + shared)), replicates(HOPPER, list(48.0 + shared))
    assert difference(ours, theirs).interval == pytest.approx((2.0, 2.0))
    one, other = (replicates(HOPPER, [value], episodes=12, seed=4) for value in (50.0, 48.0))
    found = difference(one, other)
    assert found.over == "episodes"
    assert found.interval == pytest.approx((2.0, 2.0)), "the same episodes"
    assert difference(one, replicates(HOPPER, [48.0])).interval is None
    iqm = difference(ours, theirs, "iqm")
    assert iqm.value == pytest.approx(2.0)


@pytest.mark.parametrize(
    "tasks, seeds, share",
    [(1, 2, 0.51), (1, 3, 0.76), (1, 4, 0.79), (1, 5, 0.84), (1, 10, 0.90), (1, 20, 0.92), (3, 2, 0.71), (3, 5, 0.90)],
)
def test_the_shares_that_the_docs_print(tasks: int, seeds: int, share: float) -> None:
    """How often the interval over normal replicates holds their true mean."""
    generator = np.random.default_rng(seeds)
    held, repeats = 0, 400
    for repeat in range(repeats):
        drawn = generator.normal(0.0, 1.0, (tasks, seeds))
        made = [each for task in range(tasks) for each in replicates((str(task), "data"), drawn[task].tolist())]
        interval = estimate(made, seed=repeat).interval
        assert interval is not None
        held += interval[0] <= 0.0 <= interval[1]
    assert held / repeats == pytest.approx(share, abs=0.05)
