"""The reports of a sweep's trials, as the rows of its results.parquet tell them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from m3pc_ray.errors import UserError
from tune.conclusions.stratified import FloatArray, Replicate
from tune.results import FORMAT_VERSION, METADATA_KEY

REQUIRED = (
    *("trial", "kind", "baseline", "seed", "run", "environment", "dataset", "status", "environment_steps", "last"),
    *("planner", "score", "return", "scores", "returns", "error"),
)
"""Columns besides those of the varied settings."""
Measure = Literal["score", "return"]
POPULATION = "pbt"
"""The scheduler that changes a trial's settings while it runs, so that a trial, not a setting, has a score."""


@dataclass(frozen=True)
class Description:
    """What a sweep varied and when it looked."""

    name: str
    kind: str
    varied: tuple[str, ...]
    """Dotted names of settings, in the order of the sweep's file."""
    scales: Mapping[str, str]
    """linear, log or category, by name."""
    report_steps: tuple[int, ...]
    """Environment steps at which scores are compared; none: where the trials ended."""
    baseline_label: str
    scheduler: str


@dataclass(frozen=True)
class Report:
    """One row."""

    trial: str
    kind: str
    baseline: bool
    values: tuple[Any, ...]
    """Of the varied settings, in their order; empty for the baseline."""
    seed: int
    run: str
    task: tuple[str, str]
    status: str
    environment_steps: int
    last: bool
    value: float | None
    episodes: FloatArray
    """(episodes,) in the sweep's measure."""
    error: str

    def replicate(self) -> Replicate:
        """The report as a replicate of its setting; only where it has a value."""
        assert self.value is not None
        return Replicate(self.run, self.seed, self.task, self.value, self.episodes)


@dataclass(frozen=True)
class Results:
    """A sweep's reports in one measure."""

    description: Description
    measure: Measure
    """Normalised score; the return for all where a score is missing somewhere."""
    reports: tuple[Report, ...]
    last_settings: Mapping[str, Mapping[str, Any]]
    """With population based training, the settings of every trial at its last report; else empty."""


def read_reports(table: pa.Table, source: str) -> Results:
    """The results in a table.

    Raises UserError that names `source` where the table is not one of a sweep or of another version.
    """
    description = _description(table, source)
    missing = [name for name in (*REQUIRED, *description.varied) if name not in table.column_names]
    if missing:
        raise UserError(f"{source}: lacks the column {', '.join(missing)}, so it is no complete table of a sweep")
    rows = table.to_pylist()
    last_settings = {}
    if description.scheduler == POPULATION:
        last_settings = {row["trial"]: {name: row[name] for name in description.varied} for row in rows if row["last"]}
        description = replace(description, varied=("trial",), scales={"trial": "category"})
    elif not description.varied:  # only seeds differ
        rows = [row | {"setting": "as configured"} for row in rows]
        description = replace(description, varied=("setting",), scales={"setting": "category"})
    elif _several_planners(rows):
        scales = {**description.scales, "planner": "category"}
        description = replace(description, varied=(*description.varied, "planner"), scales=scales)
    measure: Measure = "score"
    if any(_known(row["return"]) is not None and _known(row["score"]) is None for row in rows):
        measure = "return"
    reports = tuple(_report(row, description.varied, measure) for row in rows)
    return Results(description, measure, reports, last_settings)


def _description(table: pa.Table, source: str) -> Description:
    metadata = (table.schema.metadata or {}).get(METADATA_KEY)
    if metadata is None:
        raise UserError(f"{source}: says nothing about a sweep; only a table that `m3pc sweep` wrote can be read")
    try:
        described: dict[str, Any] = json.loads(metadata)
        version = described["format_version"]
        if version != FORMAT_VERSION:
            raise UserError(f"{source}: has format {version}, this m3pc reads {FORMAT_VERSION}; read it with its own")
        return Description(
            name=str(described["name"]),
            kind=str(described["kind"]),
            varied=tuple(described["varied"]),
            scales=dict(described["varied_scale"]),
            report_steps=tuple(sorted(int(step) for step in described["report_steps"])),
            baseline_label=str(described.get("baseline_label") or "baseline"),
            scheduler=str(described.get("scheduler", "none")),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{source}: its account of the sweep is damaged ({error})") from error


def _several_planners(rows: list[dict[str, Any]]) -> bool:
    """Whether trials report more than one planner each, whose scores must not be averaged."""
    seen: dict[tuple[str, int], str] = {}
    reported = [row for row in rows if not row["baseline"] and row["planner"]]
    return any(
        seen.setdefault((row["trial"], row["environment_steps"]), row["planner"]) != row["planner"] for row in reported
    )


def _report(row: dict[str, Any], varied: tuple[str, ...], measure: Measure) -> Report:
    episodes = row[f"{measure}s"]
    return Report(
        trial=row["trial"],
        kind=row["kind"],
        baseline=row["baseline"],
        values=() if row["baseline"] else tuple(row[name] for name in varied),
        seed=row["seed"],
        run=row["run"],
        task=(row["environment"], row["dataset"]),
        status=row["status"],
        environment_steps=row["environment_steps"] or 0,
        last=row["last"],
        value=_known(row[measure]),
        episodes=np.asarray(episodes if episodes is not None else [], dtype=np.float64),
        error=row["error"] or "",
    )


def _known(value: float | None) -> float | None:
    """None for NaN too: the score of a policy that broke down."""
    return value if value is not None and np.isfinite(value) else None
