"""What a reader of a sweep's table must know besides its numbers, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tune.conclusions.ranking import Comparison, Conclusion, Missing, Row, shown
from tune.conclusions.reports import POPULATION, Results
from tune.conclusions.stratified import Estimate

FEW_SEEDS = 10
"""Below this the interval holds the true mean clearly less often than 95 % (docs/sweeps.md has measured shares)."""
STATUSES = {
    "failed": "that failed",
    "stopped": "that the scheduler stopped before",
    "running": "still running",
    "finished": "that finished before, or with a score that is no number",
}
NAMED = 10
"""Trials or settings named in a sentence at most; table.json has all."""


def remarks(results: Results, conclusion: Conclusion) -> list[str]:
    """One sentence each: the best setting, what it cannot be told from, comparisons, what is missing, reservations."""
    return [
        *_best(results, conclusion),
        *_comparisons(results, conclusion),
        *_missing(results, conclusion),
        *_reservations(results, conclusion),
    ]


def interval_text(estimate: Estimate, signed: bool = False) -> str:
    """Such as `92.0 [91.2, 92.7]`, the value alone where there is no interval."""
    sign = "+" if signed else ""
    value = f"{estimate.value:{sign}.1f}"
    if estimate.interval is None:
        return value
    low, high = estimate.interval
    return f"{value} [{low:{sign}.1f}, {high:{sign}.1f}]"


def over_text(estimate: Estimate, replicates: int) -> str:
    """What the interval is over, such as `seeds` or `episodes of one seed`."""
    if estimate.over == "seeds":
        return "seeds"
    if estimate.over == "episodes":
        return "episodes of one seed" if replicates == 1 else "episodes: a task has one seed only"
    return "no interval: one episode of one seed"


def _best(results: Results, conclusion: Conclusion) -> list[str]:
    best, description = conclusion.best, results.description
    if best is None or best.estimate is None:
        return ["no setting has a score in every task, so none is called the best"]
    said = [f"best: {best.setting.label(description)}, {interval_text(best.estimate)}"]
    overlapping = conclusion.not_distinguished()
    if overlapping:
        what = "seeds" if best.estimate.over == "seeds" else "episodes"
        names = _settings(results, overlapping)
        said.append(f"not distinguished from it by these {what} (the intervals overlap): {names}")
    candidates = [row for row in conclusion.settings if row.estimate is not None]
    if len(candidates) > 1:
        said.append(
            f"the best of {len(candidates)} settings was picked by the very seeds that score it, so its score is "
            "biased upwards: only new seeds give an unbiased one"
        )
    return said


def _comparisons(results: Results, conclusion: Conclusion) -> list[str]:
    found = [(conclusion.runner_up, "the second best, "), (conclusion.against_baseline, "the baseline, ")]
    return [_comparison(results, each, role) for each, role in found if each is not None]


def _comparison(results: Results, comparison: Comparison, role: str) -> str:
    name = f"{role}{comparison.other.setting.label(results.description)}"
    estimate = comparison.estimate
    if estimate is None:
        return f"the best and {name}, have no run and seed in common, so there is no paired difference"
    said = f"the best less {name}: {interval_text(estimate, signed=True)}, paired over {_seeds(comparison.pairs)}"
    if estimate.over == "episodes":
        said += " (interval over episodes)"
    if estimate.interval is None:
        return f"{said}; without an interval"
    if estimate.interval[0] <= 0.0 <= estimate.interval[1]:
        return f"{said}; the interval holds 0, so the sign is open"
    return said


def _missing(results: Results, conclusion: Conclusion) -> list[str]:
    trials = [(row, missing) for row in conclusion.rows for missing in row.missing]
    said = []
    for status in dict.fromkeys(missing.status for _, missing in trials):
        same = [(row, missing) for row, missing in trials if missing.status == status]
        number = "1 trial" if len(same) == 1 else f"{len(same)} trials"
        names = _listed(f"{row.setting.label(results.description)}, {_trial(missing)}" for row, missing in same)
        said.append(f"no score here of {number} {STATUSES.get(status, status)}: {names}")
    most = max((len(row.replicates) for row in conclusion.settings), default=0)
    fewer = [row for row in conclusion.rows if 0 < len(row.replicates) < most]
    if fewer:
        names = _listed(f"{row.setting.label(results.description)} ({len(row.replicates)})" for row in fewer)
        said.append(f"fewer seeds than the others' {most}: {names}")
    if any(missing.status == "stopped" for row in fewer for missing in row.missing):
        said.append("of a setting that the scheduler stopped in part, the better seeds are left: its mean flatters it")
    lacking = [row for row in conclusion.rows if row.replicates and row.tasks != conclusion.tasks]
    if lacking:
        names = _settings(results, lacking)
        said.append(f"without a score in one of the {len(conclusion.tasks)} tasks, so not comparable: {names}")
    return said


def _reservations(results: Results, conclusion: Conclusion) -> list[str]:
    rows = [row for row in conclusion.rows if row.estimate is not None]
    said = []
    over_episodes = [row for row in rows if row.estimate is not None and row.estimate.over == "episodes"]
    if len(over_episodes) == len(rows):
        said.append("every interval is over episodes: how far seeds differ is not known")
    elif over_episodes:
        names = _settings(results, over_episodes)
        said.append(f"intervals over episodes, not to be compared with the others', which are over seeds: {names}")
    without = [row for row in rows if row.estimate is not None and row.estimate.over is None]
    if without:
        names = _settings(results, without)
        said.append(f"no interval (one episode of one seed): {names}")
    said += _few_seeds(rows)
    runs = {(replicate.task, replicate.run) for row in rows for replicate in row.replicates}
    if len(runs) == len(conclusion.tasks):
        said.append("all seeds start from one pretrained run: how another pretraining would fare is not known")
    if results.measure == "return":
        said.append("returns, since the environment has no reference for a normalised score")
        if len(conclusion.tasks) > 1:
            said.append("returns of different tasks have different units: their mean says little")
    said += _unreached(results, conclusion)
    if conclusion.reports_late is not None:
        least, most = conclusion.reports_late
        said.append(
            f"trials do not report at exactly {conclusion.step:,} steps; their next report counts "
            f"({least:,} to {most:,} steps)"
        )
    if results.description.scheduler == POPULATION:
        said.append(
            "population based training changes a trial's settings and copies weights between trials: a row is a trial, "
            "and trials are not independent"
        )
    return said


def _unreached(results: Results, conclusion: Conclusion) -> list[str]:
    """Report steps ahead of every setting, said at the last step before them."""
    known = [each for each in results.reports if each.value is not None and not each.baseline]
    farthest = max((each.environment_steps for each in known), default=0)
    steps = results.description.report_steps
    ahead = [step for step in steps if step > farthest]
    if not ahead or conclusion.step != max((step for step in steps if step <= farthest), default=None):
        return []
    return [f"no trial of a setting has come to {' or '.join(f'{step:,}' for step in ahead)} environment steps"]


def _few_seeds(rows: Sequence[Row]) -> list[str]:
    least = min((_fewest(row) for row in rows if row.estimate is not None and row.estimate.over == "seeds"), default=0)
    if 0 < least < FEW_SEEDS:
        return [f"intervals over {least} seeds are too narrow to hold the true mean 95 % of the time (docs/sweeps.md)"]
    return []


def _fewest(row: Row) -> int:
    return min(sum(replicate.task == task for replicate in row.replicates) for task in row.tasks)


def _trial(missing: Missing) -> str:
    what = f"seed {missing.seed}"
    if missing.environment_steps:
        what += f" at {missing.environment_steps:,} steps"
    return f"{what} ({missing.error})" if missing.error else what


def _settings(results: Results, rows: Sequence[Row]) -> str:
    """Labels of settings; where one setting varies, its name once and its values."""
    description = results.description
    if len(description.varied) > 1:
        return _listed(row.setting.label(description) for row in rows)
    values = [shown(row.setting.values[0]) for row in rows if not row.setting.baseline]
    labels = [description.baseline_label] if len(values) < len(rows) else []
    return "; ".join(labels + ([f"{description.varied[0]} {', '.join(values)}"] if values else []))


def _seeds(number: int) -> str:
    return "one seed" if number == 1 else f"{number} seeds"


def _listed(names: Iterable[str]) -> str:
    everything = list(names)
    more = f"; and {len(everything) - NAMED} more in table.json" if len(everything) > NAMED else ""
    return "; ".join(everything[:NAMED]) + more
