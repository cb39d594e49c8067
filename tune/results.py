"""What the trials of a sweep reported, as one Parquet file that is complete after every report.

One row a report. Everything that is concluded comes from this file alone.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from m3pc_ray.configuration import all_settings
from m3pc_ray.errors import UserError
from tune.definition import Sweep
from tune.folder import RESULTS, SweepFolder
from tune.space import Settings

METADATA_KEY = b"m3pc_sweep"
FORMAT_VERSION = 1
ENDED = ("finished", "stopped")
"""Status of trials that are not run again."""

COLUMNS_BEFORE = {"trial": pa.string(), "kind": pa.string(), "baseline": pa.bool_()}
COLUMNS_AFTER = {
    "seed": pa.int64(),
    "run": pa.string(),
    "environment": pa.string(),
    "dataset": pa.string(),
    "status": pa.string(),
    "report_step": pa.int64(),
    "environment_steps": pa.int64(),
    "last": pa.bool_(),
    "planner": pa.string(),
    "score": pa.float64(),
    "return": pa.float64(),
    "scores": pa.list_(pa.float64()),
    "returns": pa.list_(pa.float64()),
    "seconds": pa.float64(),
    "checkpoint": pa.string(),
    "error": pa.string(),
}


def results_schema(sweep: Sweep) -> pa.Schema:
    """Columns of a sweep's results, a column for every varied setting among them, and what figures need to know of it.

    | column | holds |
    |---|---|
    | trial, kind, baseline | the trial, `evaluate` or `finetune`, whether it belongs to the baseline |
    | dotted names | the varied settings; null for the baseline |
    | seed, run, environment, dataset | seed, path of the pretrained run, and what that was trained on |
    | status | finished, stopped (by the scheduler), failed, running |
    | report_step, environment_steps | online steps the report is for, and those its weights had learnt from |
    | last | the trial's newest report |
    | planner, score, return, scores, returns | which planner acted, means, and one value an episode |
    | seconds | of the trial so far |
    | checkpoint | the run as it was, relative to the sweep's folder; empty where DIR/trials has it |
    | error | why a trial failed |
    """
    varied = {name: _type_of(name, axis.values) for name, axis in sweep.space.items()}
    metadata = {
        "format_version": FORMAT_VERSION,
        "name": sweep.name,
        "kind": sweep.kind,
        "scheduler": sweep.scheduler.name,
        "varied": sweep.varied,
        "varied_scale": {name: axis.scale for name, axis in sweep.space.items()},
        "report_steps": list(sweep.report_steps),
        "baseline": sweep.baseline or None,
        "baseline_label": sweep.baseline_label,
        "episodes": sweep.settings.get("evaluation.episodes", 0),
    }
    return pa.schema(
        {**COLUMNS_BEFORE, **varied, **COLUMNS_AFTER}, metadata={METADATA_KEY: json.dumps(metadata).encode()}
    )


def _type_of(name: str, values: tuple[Any, ...]) -> pa.DataType:
    if any(isinstance(value, str) for value in values):
        return pa.string()
    annotation = all_settings()[name].annotation
    return {bool: pa.bool_(), int: pa.int64()}.get(annotation, pa.float64())


@dataclass
class ResultsFile:
    """The reports of a sweep; every change is on disk before the call returns.

    Args:
        folder: of the sweep; what it holds already is taken up.
        sweep: whose results these are.

    Raises:
        UserError: the file cannot be read or written.
    """

    folder: SweepFolder
    sweep: Sweep
    rows: list[dict[str, Any]] = field(default_factory=list)
    """One a report, in the order they came."""

    def __post_init__(self) -> None:
        if self.folder.exists(RESULTS):
            self.rows = read_results(self.folder).to_pylist()

    def report(self, trial: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Take up one report of a trial; one for the same step replaces the former.

        Args:
            trial: as `tune.plan.Trial.row` has it.
            values: report_step, environment_steps, planner, score, return, scores, returns, seconds, checkpoint.
        """
        row = {**dict.fromkeys(results_schema(self.sweep).names), **trial, **values}
        row |= {"kind": self.sweep.kind, "status": "running", "last": True, "error": ""}
        replaced = ((row["trial"], row["report_step"]), (row["trial"], None))  # None: it had failed without a report
        self.rows = [old for old in self.rows if (old["trial"], old["report_step"]) not in replaced]
        for old in self.rows:
            if old["trial"] == row["trial"]:
                old["last"] = False
        self.rows.append(row)
        self.save()

    def ended(self, trial: Mapping[str, Any], status: str, error: str = "") -> None:
        """A trial is over: finished, stopped or failed; or running again."""
        mine = [row for row in self.rows if row["trial"] == trial["trial"]]
        if not mine:
            if status == "running":
                return
            mine = [{**dict.fromkeys(results_schema(self.sweep).names), **trial, "kind": self.sweep.kind, "last": True}]
            self.rows += mine
        for row in mine:
            row["status"], row["error"] = status, error
        self.save()

    def status(self, trial: str) -> str:
        """Status of a trial; empty where it has none."""
        return next((str(row["status"]) for row in self.rows if row["trial"] == trial), "")

    def newest(self, trial: str) -> dict[str, Any] | None:
        """A trial's last report."""
        reports = [row for row in self.rows if row["trial"] == trial and row["last"] and row["report_step"] is not None]
        return reports[-1] if reports else None

    def settings(self, row: Mapping[str, Any]) -> Settings:
        """The varied settings of a row."""
        return {name: row[name] for name in self.sweep.varied}

    def save(self) -> None:
        """Replace the file."""
        table = pa.Table.from_pylist(self.rows, schema=results_schema(self.sweep))
        buffer = io.BytesIO()
        parquet.write_table(table, buffer)
        self.folder.write(RESULTS, buffer.getvalue())


def read_results(folder: SweepFolder) -> pa.Table:
    """The table of a sweep's results.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if not folder.is_folder():
        raise UserError(f"{folder.name}: no such folder of a sweep")
    if not folder.exists(RESULTS):
        raise UserError(f"{folder.name}: holds no {RESULTS}; `m3pc sweep` writes it as trials report")
    content = folder.read(RESULTS)
    try:
        return parquet.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:  # OSError: a page that does not decompress
        raise UserError(f"{folder.shown(RESULTS)}: damaged, no whole Parquet file ({error})") from error
