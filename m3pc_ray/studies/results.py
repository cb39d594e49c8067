"""The numbers of a study's table, from the records of its cells: means over seeds, spreads, paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from m3pc_ray.studies.definition import Cell, Study, Variant
from m3pc_ray.studies.measure import has_critic
from m3pc_ray.studies.records import CLONING, DYNAMICS, MASKS, SCORE, StudyFolder

Row = dict[str, Any]
UNITS = {"seconds": "seconds", "steps": "btm_updates", "sequences": "sequences", "critic_updates": "critic_updates"}
"""Columns `training/<name>` and what a record calls it."""


@dataclass(frozen=True)
class Measured:
    """One measure of one cell."""

    value: float
    episodes: tuple[float, ...] = ()
    """A value each, in the order of their seeds; empty for what is no mean over episodes."""


def study_rows(folder: StudyFolder, study: Study) -> list[Row]:
    """One row a data set, variant and column, as far as it is measured.

    Keys: dataset, variant, label, x, line, measure; seeds and values (one a seed that is measured), mean, error
    (standard error over seeds, of a single seed over its episodes; None where there is nothing to take it over);
    difference, difference_error and differences (to the baseline, paired by seed, of a single seed by episode) where
    asked for;
    missing: None, `not possible` or `not measured yet` (of at least one seed).
    """
    rows = []
    for dataset in study.datasets:
        for variant in study.variants.values():
            if variant.datasets and dataset not in variant.datasets:
                continue
            for measure in study.columns:
                rows.append(_row(folder, study, dataset, variant, measure))
    return rows


def _row(folder: StudyFolder, study: Study, dataset: str, variant: Variant, measure: str) -> Row:
    cells = {seed: Cell(study, dataset, variant, seed) for seed in study.seeds}
    found = {seed: _measured(folder, cell, measure) for seed, cell in cells.items()}
    known = {seed: value for seed, value in found.items() if value is not None}
    row: Row = {"dataset": dataset, "variant": variant.name, "label": variant.label, "x": variant.x}
    row |= {"line": variant.line, "measure": measure, "seeds": list(known)}
    row["values"] = [measured.value for measured in known.values()]
    row["mean"], row["error"] = _mean_and_error(list(known.values()), len(study.seeds))
    row["missing"] = None
    if len(known) < len(study.seeds):
        possible = not measure.endswith("/critic") or has_critic(next(iter(cells.values())))
        no_score = (
            possible and measure.startswith("score/") and _without_score(folder, next(iter(cells.values())), measure)
        )
        row["missing"] = "not measured yet" if possible and not no_score else "not possible"
    if measure in study.differences and variant.name != study.baseline:
        row |= _difference(folder, study, dataset, known, measure)
    return row


def _difference(
    folder: StudyFolder, study: Study, dataset: str, known: dict[int, Measured], measure: str
) -> dict[str, Any]:
    baseline = study.variants[study.baseline]
    pairs = []
    if not baseline.datasets or dataset in baseline.datasets:
        for seed, measured in known.items():
            other = _measured(folder, Cell(study, dataset, baseline, seed), measure)
            if other is not None:
                # The same episodes: what their starts have in common falls out of the difference.
                episodes = tuple(a - b for a, b in zip(measured.episodes, other.episodes, strict=False))
                pairs.append(Measured(measured.value - other.value, episodes))
    mean, error = _mean_and_error(pairs, len(study.seeds))
    return {"difference": mean, "difference_error": error, "differences": [pair.value for pair in pairs]}


def _mean_and_error(measured: Sequence[Measured], seeds: int) -> tuple[float | None, float | None]:
    """Over seeds where the study has several, else over the one seed's episodes."""
    if not measured:
        return None, None
    sample: Sequence[float] = [each.value for each in measured]
    mean = float(np.mean(sample))
    if seeds == 1:
        sample = measured[0].episodes
    error = float(np.std(sample, ddof=1)) / math.sqrt(len(sample)) if len(sample) > 1 else None
    return mean, error


def _measured(folder: StudyFolder, cell: Cell, measure: str) -> Measured | None:
    """A measure of a cell from its record; None where it is not there."""
    kind, _, name = measure.partition("/")
    if kind in ("score", "return"):
        if name == "critic" and not has_critic(cell):
            return None
        row = folder.find(cell, CLONING if name == "mlp_bc" else SCORE + name)
        if row is None or row[f"{kind}_mean"] is None:
            return None
        return Measured(float(row[f"{kind}_mean"]), tuple(row[f"{kind}s"]))
    if kind == "planning":
        row = folder.find(cell, SCORE + name) if name != "critic" or has_critic(cell) else None
        cost = None if row is None else row.get("planning_cpu_ms")  # rows of earlier versions do not have it
        return None if cost is None else Measured(float(cost))
    if kind == "training":
        return _training(folder, cell, UNITS[name])
    errors = folder.find(cell, DYNAMICS if kind == "dynamics" else MASKS)
    value = None if errors is None else errors.get(measure)
    return None if value is None else Measured(float(value))


def _training(folder: StudyFolder, cell: Cell, fact: str) -> Measured | None:
    """What the training of the cell's runs has cost, each run once; the runs need not be there any more."""
    facts = folder.facts(cell)
    if facts is None:
        return None
    return Measured(float(sum(each[fact] or 0 for each in {each["run"]: each for each in facts.values()}.values())))


def _without_score(folder: StudyFolder, cell: Cell, measure: str) -> bool:
    """Whether it was played but has no reference returns to be scored by."""
    name = measure.partition("/")[2]
    row = folder.find(cell, CLONING if name == "mlp_bc" else SCORE + name)
    return row is not None and row["score_mean"] is None
