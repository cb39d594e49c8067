"""From a sweep's results.parquet to its conclusions on disk: table.json, table.md and figures/*.png."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import fs
from rich.console import Console

from tune.conclusion_figures import draw
from tune.conclusion_tables import conclusion_table, json_remarks, json_rows, markdown
from tune.conclusions import Conclusion, conclude_from
from tune.remarks import remarks
from tune.reports import Results, read_reports
from tune.stratified import Statistic
from tune.sweep_files import RESULTS_FILE, SweepFiles


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


def conclude(folder: str | Path, statistic: Statistic = "mean", filesystem: fs.FileSystem | None = None) -> Concluded:
    """Reads results.parquet of a sweep's folder, wherever it lies, and writes what it says beside it.

    `folder` is a path on this machine, or one of `filesystem`. Raises UserError where there is no such file, it is
    damaged, no trial has a score yet, or the folder cannot be written to.
    """
    files = SweepFiles(folder, filesystem)
    source = files.shown(RESULTS_FILE)
    results = read_reports(files.read_results(), source)
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
        files.write(name, data)
    return Concluded(results, statistic, conclusions, tuple(files.shown(name) for name in contents))
