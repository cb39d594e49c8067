"""How the settings of a finetuning sweep fare over environment steps, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tune.conclusions.ranking import Setting, by_setting, pool
from tune.conclusions.reports import Report, Results
from tune.conclusions.stratified import Estimate, Replicate, Statistic, estimate


@dataclass(frozen=True)
class LearningCurve:
    """One setting over its steps, which are in order; entry i of both belongs together."""

    setting: Setting
    steps: tuple[int, ...]
    estimates: tuple[Estimate, ...]
    replicates: int
    """The same at every step: a curve ends where the first of its trials does."""


def learning_curves(results: Results, statistic: Statistic = "mean") -> list[LearningCurve]:
    """A curve a setting, the baseline's first; none at all where no setting has more than one step.

    Trials that reported at different steps are interpolated linearly between their own reports, within the steps that
    all trials of the setting have behind them; such a curve's intervals are over seeds or there is none.
    """
    found = []
    for setting, reports in by_setting(results).items():
        curve = _curve(setting, reports, statistic)
        if curve is not None:
            found.append(curve)
    return found if any(len(curve.steps) > 1 and not curve.setting.baseline for curve in found) else []


def _curve(setting: Setting, reports: Sequence[Report], statistic: Statistic) -> LearningCurve | None:
    trials: dict[str, dict[int, Replicate]] = {}
    for report in reports:
        if report.value is not None and report.kind != "evaluate":
            trials.setdefault(report.trial, {})[report.environment_steps] = report.replicate()
    first = max((min(own) for own in trials.values()), default=0)
    last = min((max(own) for own in trials.values()), default=0)
    steps = sorted({step for own in trials.values() for step in own if first <= step <= last})
    if not steps:
        return None
    replicates = [pool(_at(own, step) for own in trials.values()) for step in steps]
    estimates = tuple(estimate(each, statistic) for each in replicates)
    return LearningCurve(setting, tuple(steps), estimates, len(replicates[0]))


def _at(own: dict[int, Replicate], step: int) -> Replicate:
    if step in own:
        return own[step]
    known = sorted(own)
    value = float(np.interp(step, known, [own[each].value for each in known]))
    some = own[known[0]]
    return Replicate(some.run, some.seed, some.task, value, np.empty(0))
