"""From a sweep's results.parquet to its conclusions on disk: table.json, table.md and figures/*.png."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from tune.conclusions.figures import draw
from tune.conclusions.ranking import Conclusion, conclude_from
from tune.conclusions.remarks import remarks
from tune.conclusions.reports import Results, read_reports
from tune.conclusions.stratified import Statistic
from tune.conclusions.tables import conclusion_table, json_remarks, json_rows, markdown
from tune.folder import RESULTS, SweepFolder
from tune.results import read_results


@dataclass(frozen=True)
class Concluded:
    """A sweep's conclusions and where they were written."""

    results: Results
    statistic: Statistic
    conclusions: tuple[Conclusion, ...]
    written: tuple[str, ...]
    """Paths of table.json, table.md and the figures."""

    def rows(self) -> list[dict[str, Any]]:
        """One row a setting and report step."""
        return json_rows(self.results, self.conclusions, self.statistic)

    def remarks(self) -> list[dict[str, Any]]:
        """{"environment_steps", "remarks"} of every report step."""
        return json_remarks(self.results, self.conclusions)

    def print(self, console: Console) -> None:
        """The table of every report step, its remarks below it, and the files."""
        for conclusion in self.conclusions:
            console.print(conclusion_table(self.results, conclusion, self.statistic))
            for remark in remarks(self.results, conclusion):
                console.print(f"- {remark}", markup=False, highlight=False)
            console.print()
        for path in self.written:
            console.print(path, markup=False, highlight=False, soft_wrap=True)


def conclude(folder: SweepFolder, statistic: Statistic = "mean") -> Concluded:
    """Reads results.parquet of a sweep's folder, wherever it lies, and writes what it says beside it.

    Raises UserError where there is no such file, it is damaged, no trial has a score yet, or the folder cannot be
    written to.
    """
    source = folder.shown(RESULTS)
    results = read_reports(read_results(folder), source)
    conclusions = tuple(conclude_from(results, statistic, source))
    figures = draw(results, conclusions, statistic)
    texts = {
        "table.json": json.dumps(
            {"rows": json_rows(results, conclusions, statistic), "remarks": json_remarks(results, conclusions)},
            indent=2,
            allow_nan=False,
        )
        + "\n",
        "table.md": markdown(results, conclusions, statistic, list(figures)),
    }
    contents = {name: text.encode() for name, text in texts.items()} | figures
    for name, data in contents.items():
        folder.write(name, data)
    return Concluded(results, statistic, conclusions, tuple(folder.shown(name) for name in contents))
