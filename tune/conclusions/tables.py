"""A sweep's conclusions as tables for a terminal, as Markdown, and as rows for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tune.conclusions.ranking import Conclusion, Row, shown
from tune.conclusions.remarks import over_text, remarks
from tune.conclusions.reports import Results
from tune.conclusions.stratified import Statistic

UNITS = {"score": "normalised score", "return": "return"}
STATISTIC_NAMES: dict[Statistic, str] = {"mean": "mean", "iqm": "interquartile mean"}
BEST_FIRST = 3
"""From so many varied settings on, rows come by score: nobody looks up a combination of three by its values."""


def conclusion_table(results: Results, conclusion: Conclusion, statistic: Statistic) -> Table:
    """A row a setting: its values, the statistic with its 95 % interval, what that is over, and how it stands."""
    table = Table(title=heading(results, conclusion, statistic), box=SIMPLE_HEAD, pad_edge=False, title_justify="left")
    names = _column_names(results, statistic)
    last_words = [name.rpartition(".")[2].replace("_", " ") for name in results.description.varied]
    if 1 < len(last_words) == len(set(last_words)):  # a terminal has no room for several dotted names
        names = [*last_words, *names[len(last_words) :]]
    for name in names:
        number = name in names[-5:-2]
        longest = max(map(len, name.split()), default=0)
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=number, min_width=longest)
    for cells in _cells(results, conclusion):
        table.add_row(*cells)
    return table


def markdown(results: Results, conclusions: Sequence[Conclusion], statistic: Statistic, figures: Sequence[str]) -> str:
    """All report steps with tables and remarks, and links to the figures (paths relative to the page)."""
    lines = [f"# Sweep {results.description.name}", ""]
    for conclusion in conclusions:
        names = _column_names(results, statistic)
        lines += [f"## {heading(results, conclusion, statistic)}", "", _line(names), _line(["---"] * len(names))]
        lines += [_line(cells) for cells in _cells(results, conclusion)]
        lines += ["", *(f"- {remark}" for remark in remarks(results, conclusion)), ""]
    lines += [f"![{name}]({name})" for name in figures]
    return "\n".join(lines).rstrip() + "\n"


def json_rows(results: Results, conclusions: Sequence[Conclusion], statistic: Statistic) -> list[dict[str, Any]]:
    """One flat row a setting and report step, with its replicates and its missing trials in full."""
    return [_json_row(results, conclusion, row, statistic) for conclusion in conclusions for row in conclusion.rows]


def json_remarks(results: Results, conclusions: Sequence[Conclusion]) -> list[dict[str, Any]]:
    """The remarks of every report step."""
    return [{"environment_steps": each.step, "remarks": remarks(results, each)} for each in conclusions]


def heading(results: Results, conclusion: Conclusion, statistic: Statistic) -> str:
    """Such as `lambda: mean normalised score at 100,000 environment steps`."""
    where = "" if conclusion.step is None else f" at {conclusion.step:,} environment steps"
    return f"{results.description.name}: {STATISTIC_NAMES[statistic]} {UNITS[results.measure]}{where}"


def ordered(results: Results, conclusion: Conclusion) -> list[Row]:
    """The rows as tables show them: by the settings' values, or best first where these are many."""
    if len(results.description.varied) < BEST_FIRST:
        return list(conclusion.rows)
    scored = [row for row in conclusion.settings if row.estimate is not None]
    scored.sort(key=lambda row: -row.estimate.value if row.estimate is not None else 0.0)
    rest = [row for row in conclusion.settings if row.estimate is None]
    baseline = [conclusion.baseline] if conclusion.baseline is not None else []
    return [*baseline, *scored, *rest]


def _column_names(results: Results, statistic: Statistic) -> list[str]:
    return [*results.description.varied, STATISTIC_NAMES[statistic], "95 % interval", "seeds", "over", ""]


def _cells(results: Results, conclusion: Conclusion) -> list[list[str]]:
    return [[*_names(results, row), *_numbers(row), _standing(conclusion, row)] for row in ordered(results, conclusion)]


def _names(results: Results, row: Row) -> list[str]:
    if not row.setting.baseline:
        return [shown(value) for value in row.setting.values]
    return [results.description.baseline_label, *[""] * (len(results.description.varied) - 1)]


def _numbers(row: Row) -> list[str]:
    estimate = row.estimate
    if estimate is None:
        return ["-", "-", "0", "-"]
    interval = "-" if estimate.interval is None else "{:.1f} to {:.1f}".format(*estimate.interval)
    number = len(row.replicates)
    return [f"{estimate.value:.1f}", interval, str(number), over_text(estimate, number)]


def _standing(conclusion: Conclusion, row: Row) -> str:
    said = []
    if row is conclusion.best:
        said.append("best")
    elif row in conclusion.not_distinguished():
        said.append("overlaps the best")
    if row.missing:
        counts: dict[str, int] = {}
        for missing in row.missing:
            counts[missing.status] = counts.get(missing.status, 0) + 1
        said.append("without a score: " + ", ".join(f"{number} {status}" for status, number in counts.items()))
    return "; ".join(said)


def _json_row(results: Results, conclusion: Conclusion, row: Row, statistic: Statistic) -> dict[str, Any]:
    estimate = row.estimate
    interval = (estimate.interval if estimate is not None else None) or (None, None)
    names = results.description.varied
    replicates = [
        {
            "run": each.run,
            "seed": each.seed,
            "environment": each.task[0],
            "dataset": each.task[1],
            "value": each.value,
            "episodes": len(each.episodes),
        }
        for each in row.replicates
    ]
    return {
        "environment_steps": conclusion.step,
        "label": row.setting.label(results.description),
        "baseline": row.setting.baseline,
        "setting": None if row.setting.baseline else dict(zip(names, row.setting.values, strict=True)),
        "last_settings": results.last_settings.get(row.setting.values[0])
        if results.last_settings and row.setting.values
        else None,
        "measure": results.measure,
        "statistic": statistic,
        "value": estimate.value if estimate is not None else None,
        "low": interval[0],
        "high": interval[1],
        "interval_over": estimate.over if estimate is not None else None,
        "seeds": len(row.replicates),
        "best": row is conclusion.best,
        "not_distinguished_from_best": row in conclusion.not_distinguished(),
        "replicates": replicates,
        "missing": [vars(missing) for missing in row.missing],
    }


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
