"""What a sweep's reports say about its settings: a row a setting, the best of them, and how sure that is.

A setting's replicates are the (run, seed) pairs that reached a report step; their mean and interval are those of
`tune.conclusions.stratified`. Nothing here is dropped without a name: a trial without a value at a step is in its
setting's `missing`, and a setting that nobody finished is still a row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from m3pc_ray.errors import UserError
from tune.conclusions.reports import Description, Report, Results
from tune.conclusions.stratified import Estimate, Replicate, Statistic, Task, difference, estimate


@dataclass(frozen=True)
class Setting:
    """Values of the varied settings, or the sweep's baseline."""

    values: tuple[Any, ...]
    baseline: bool = False

    def label(self, description: Description) -> str:
        """Such as `planner.td_lambda 0.6, planner.horizon 4`, or the baseline's name."""
        if self.baseline:
            return description.baseline_label
        names = zip(description.varied, self.values, strict=True)
        return ", ".join(f"{name} {shown(value)}" for name, value in names)


@dataclass(frozen=True)
class Missing:
    """A trial without a value at a report step."""

    trial: str
    run: str
    seed: int
    status: str
    environment_steps: int
    """How far it came."""
    error: str


@dataclass(frozen=True)
class Row:
    """One setting at one report step."""

    setting: Setting
    replicates: tuple[Replicate, ...]
    estimate: Estimate | None
    """None without replicates."""
    missing: tuple[Missing, ...]

    @property
    def tasks(self) -> frozenset[Task]:
        return frozenset(replicate.task for replicate in self.replicates)

    @property
    def pairs(self) -> frozenset[tuple[str, int]]:
        return frozenset(replicate.pair for replicate in self.replicates)

    def overlaps(self, other: Row) -> bool:
        """Whether both have intervals, and these have a point in common."""
        ours, theirs = (row.estimate.interval if row.estimate is not None else None for row in (self, other))
        return ours is not None and theirs is not None and ours[0] <= theirs[1] and theirs[0] <= ours[1]


@dataclass(frozen=True)
class Comparison:
    """The best setting less another over the (run, seed) pairs that both have."""

    other: Row
    pairs: int
    estimate: Estimate | None
    """None without a pair in common."""


@dataclass(frozen=True)
class Conclusion:
    """All settings at one report step."""

    step: int | None
    """Environment steps; None: where the trials ended."""
    rows: tuple[Row, ...]
    """The baseline first, then by the settings' values."""
    best: Row | None
    """The highest of the settings that have every task; None where no setting has. Never the baseline."""
    runner_up: Comparison | None
    against_baseline: Comparison | None
    reports_late: tuple[int, int] | None
    """Least and greatest environment steps of the reports that counted, where one is not exactly at the step."""

    @property
    def baseline(self) -> Row | None:
        return next((row for row in self.rows if row.setting.baseline), None)

    @property
    def settings(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if not row.setting.baseline)

    @property
    def tasks(self) -> frozenset[Task]:
        return frozenset(itertools.chain.from_iterable(row.tasks for row in self.rows))

    def not_distinguished(self) -> tuple[Row, ...]:
        """The settings, and the baseline, whose interval has a point in common with the best one's."""
        best = self.best
        return tuple(row for row in self.rows if best is not None and row is not best and row.overlaps(best))


def conclude_from(results: Results, statistic: Statistic = "mean", source: str = "the results") -> list[Conclusion]:
    """A conclusion for every report step that a setting has reached, in order; one, at the end, without report steps.

    Raises UserError naming `source` where no trial of a setting has got that far.
    """
    steps: Sequence[int | None] = results.description.report_steps or (None,)
    conclusions = [_conclusion(results, step, statistic) for step in steps]
    reached = [conclusion for conclusion in conclusions if any(row.replicates for row in conclusion.settings)]
    if not reached:
        raise UserError(f"{source}: {_nothing(results)}")
    return reached


def shown(value: Any) -> str:
    """A setting's value as tables and figures print it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def order(values: tuple[Any, ...]) -> tuple[tuple[int, float, str], ...]:
    """Sorts settings: numbers and booleans by value, then words, then null."""

    def one(value: Any) -> tuple[int, float, str]:
        if value is None:
            return 2, 0.0, ""
        return (0, float(value), "") if isinstance(value, bool | int | float) else (1, 0.0, str(value))

    return tuple(one(value) for value in values)


def by_setting(results: Results) -> dict[Setting, list[Report]]:
    """Every setting's reports, the baseline first, then by the settings' values."""
    groups: dict[Setting, list[Report]] = {}
    for report in results.reports:
        groups.setdefault(Setting(report.values, report.baseline), []).append(report)
    return dict(sorted(groups.items(), key=lambda item: (not item[0].baseline, order(item[0].values))))


def pool(replicates: Iterable[Replicate]) -> tuple[Replicate, ...]:
    """One replicate a (run, seed) pair, ordered; those that repeat a pair count as one, with the episodes of all."""
    pairs: dict[tuple[str, int], list[Replicate]] = {}
    for replicate in replicates:
        pairs.setdefault(replicate.pair, []).append(replicate)
    pooled = []
    for _, same in sorted(pairs.items()):
        value = float(np.mean([each.value for each in same]))
        episodes = np.concatenate([each.episodes for each in same])
        pooled.append(Replicate(same[0].run, same[0].seed, same[0].task, value, episodes))
    return tuple(pooled)


def _conclusion(results: Results, step: int | None, statistic: Statistic) -> Conclusion:
    rows, counted = [], []
    for setting, reports in by_setting(results).items():
        there, missing = _reports_at(reports, step, results.description.report_steps)
        replicates = pool(report.replicate() for report in there)
        counted += [report.environment_steps for report in there if report.kind != "evaluate"]
        rows.append(Row(setting, replicates, estimate(replicates, statistic) if replicates else None, missing))
    late = (min(counted), max(counted)) if step is not None and any(steps != step for steps in counted) else None
    tasks = frozenset().union(*(row.tasks for row in rows))
    ranked = sorted((row for row in rows if row.estimate is not None and not row.setting.baseline), key=_height)
    candidates = [row for row in ranked if row.tasks == tasks]
    baseline = next((row for row in rows if row.setting.baseline and row.estimate is not None), None)
    best = candidates[0] if candidates else None
    runner_up = _compare(best, candidates[1], statistic) if best is not None and len(candidates) > 1 else None
    against = _compare(best, baseline, statistic) if best is not None and baseline is not None else None
    return Conclusion(step, tuple(rows), best, runner_up, against, late)


def _height(row: Row) -> float:
    assert row.estimate is not None
    return -row.estimate.value


def _reports_at(
    reports: Sequence[Report], step: int | None, steps: Sequence[int]
) -> tuple[list[Report], tuple[Missing, ...]]:
    """The report of every trial that counts at a step, and the trials that have none.

    That is the first one at or after the step and before the next step, whatever became of the trial later; without
    steps, the last one of a trial that finished. A row of kind `evaluate` has no steps of its own: it counts at all.
    """
    found, missing = [], []
    following = min((later for later in steps if step is not None and later > step), default=None)
    for trial in dict.fromkeys(report.trial for report in reports):
        own = sorted((report for report in reports if report.trial == trial), key=lambda each: each.environment_steps)
        if step is None or own[-1].kind == "evaluate":
            fitting = [report for report in own if report.last and report.status == "finished"][-1:]
        else:
            within = [each for each in own if step <= each.environment_steps and each.value is not None]
            fitting = [each for each in within if following is None or each.environment_steps < following]
            # A resumed trial may have reported the same step twice: the later one is the one it went on from.
            fitting = [each for each in fitting if each.environment_steps == fitting[0].environment_steps][-1:]
        if fitting and fitting[0].value is not None:
            found.append(fitting[0])
        else:
            end = own[-1]
            error = next((each.error for each in own if each.error), "")
            missing.append(Missing(trial, end.run, end.seed, end.status, end.environment_steps, error))
    return found, tuple(missing)


def _compare(best: Row, other: Row, statistic: Statistic) -> Comparison:
    common = best.pairs & other.pairs
    if not common:
        return Comparison(other, 0, None)
    ours, theirs = ([each for each in row.replicates if each.pair in common] for row in (best, other))
    return Comparison(other, len(common), difference(ours, theirs, statistic))


def _nothing(results: Results) -> str:
    last = {report.trial: report for report in results.reports if not report.baseline}
    if not last:
        return "holds no trial yet; `m3pc resume` continues a sweep"
    counts: dict[str, int] = {}
    for report in last.values():
        counts[report.status] = counts.get(report.status, 0) + 1
    what = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    goal = "has finished with a score"
    if results.description.report_steps:
        goal = f"has a score at {results.description.report_steps[0]:,} environment steps, the first report step"
    error = next((f"; the first error: {report.error}" for report in last.values() if report.error), "")
    return f"no trial of a setting {goal} ({what}){error}"
