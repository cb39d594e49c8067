"""The table of a study: on the terminal, and in Markdown for documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, cast

from rich.box import SIMPLE_HEAD
from rich.table import Table

from m3pc_ray.config import Guide
from m3pc_ray.evaluation.tables import PLANNER_NAMES
from m3pc_ray.studies.definition import Study
from m3pc_ray.studies.results import Row

NOT_POSSIBLE, NOT_YET = "-", "…"
HEAD_WIDTH = 10
"""Characters of a line in a column's head: a score with its error, `88.1 ± 0.4`."""
COLUMN_GAP, EDGES = 3, 2
"""Characters between two columns, and at both edges together, of a table in rich's box SIMPLE_HEAD."""
SHORT = {
    "return_conditioned": "RCBC",
    "inverse_dynamics": "ID",
    "behaviour_cloning": "BC",
    "reward_prediction": "RP",
}
"""Masks as docs/architecture.md abbreviates them."""
TITLES = {
    "negative_log_likelihood": "action log-likelihood, negative",
    "entropy": "action entropy",
    "rewards_error": "rewards error, FD",
    "returns_error": "returns error, RP",
    "training/seconds": "training seconds",
    "training/steps": "gradient steps",
    "training/sequences": "training sequences",
    "training/critic_updates": "critic updates",
    "score/mlp_bc": "score, MLP BC",
    "return/mlp_bc": "return, MLP BC",
}


def column_title(measure: str) -> str:
    """A measure as a table's head says it."""
    if measure in TITLES:
        return TITLES[measure]
    kind, _, name = measure.partition("/")
    if kind in ("score", "return", "planning"):
        shown = "planning CPU ms" if kind == "planning" else kind
        return f"{shown}, {PLANNER_NAMES[cast(Guide, name)].partition('(')[2].rstrip(')')}"
    if kind == "dynamics":
        return f"dynamics error, +{name}"
    if name.endswith("_ahead"):
        return f"states error, +{name.removesuffix('_ahead')}"
    return f"{kind.replace('_', ' ')}, {SHORT.get(name, name.replace('_', ' '))}"


def caption(study: Study, rows: Sequence[Row]) -> str:
    """What the numbers are, and why some are not there."""
    played = f"{study.evaluation.episodes} episodes from seed {study.evaluation.seed}"
    seeds = len(study.seeds)
    if seeds == 1:
        over = f"± standard error over episodes of one training seed ({study.seeds[0]}); errors have none"
    else:
        half = " (half their difference)" if seeds == 2 else ""
        over = f"mean over {seeds} training seeds ± standard error over seeds{half}"
    words = [f"Scores: {played} each; {over}."]
    if any(
        measure.partition("/")[0] in ("states_error", "rewards_error", "returns_error") for measure in study.columns
    ):
        words.append(
            "Errors of states (+k: k steps ahead), rewards and returns: squared, on held-out episodes, in units of the "
            "variance of what the run learnt from."
        )
    if any(measure.startswith("dynamics/") for measure in study.columns):
        words.append(
            "Dynamics errors (+k: k steps ahead): squared, of states of held-out episodes, in units of the whole data "
            "set's variance."
        )
    if any(measure.startswith("action_error") for measure in study.columns):
        words.append("Action errors: squared, on held-out episodes.")
    if study.differences:
        how = "by seed" if seeds > 1 else "by episode"
        words.append(f"Δ: difference to {study.variants[study.baseline].label}, paired {how}.")
    if any(row["missing"] == "not possible" for row in rows):
        words.append(f"{NOT_POSSIBLE}: not possible, since the run has no critic or the task no score.")
    if any(row["missing"] == "not measured yet" for row in rows):
        words.append(f"{NOT_YET}: not measured yet, of all seeds or of some.")
    return " ".join(words)


def _cells(study: Study, rows: Sequence[Row]) -> tuple[list[str], dict[str, dict[str, list[str]]]]:
    """Titles of the columns, and data set -> label -> texts."""
    titles: list[str] = []
    lines: dict[str, dict[str, list[str]]] = {}
    for measure in study.columns:
        titles.append(column_title(measure))
        if measure in study.differences:
            titles.append(f"Δ {column_title(measure)}")
    for row in rows:
        texts = lines.setdefault(row["dataset"], {}).setdefault(row["label"], [])
        texts.append(_text(row, "mean", "error"))
        if row["measure"] in study.differences:
            texts.append(_text(row, "difference", "difference_error") if "difference" in row else "")
    return titles, lines


def _text(row: Row, value: str, error: str) -> str:
    """`88.1 ± 0.4`, or why there is no number."""
    mean, spread = row[value], row[error]
    waiting = f" {NOT_YET}" if row["missing"] == "not measured yet" else ""
    if mean is None:
        return NOT_POSSIBLE if row["missing"] == "not possible" else NOT_YET
    sign = "+" if value == "difference" else ""
    digits = (
        1
        if row["measure"].startswith(("score", "planning"))
        else 0
        if row["measure"].startswith(("return/", "training"))
        else 4
    )
    text = f"{mean:{sign}.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")
    return text + waiting


def study_tables(study: Study, rows: Sequence[Row], width: int) -> list[Table]:
    """Tables for a terminal of `width` columns: one a data set, or several where its columns do not fit beside.

    A cell that is wrapped cannot be read, so columns that find no room stand in a further table below, with the labels
    again.
    """
    titles, lines = _cells(study, rows)
    tables: list[Table] = []
    for dataset, variants in lines.items():
        labels = list(variants)
        room = width - max(map(len, labels)) - EDGES
        columns = [
            [_narrow(title), *column]
            for title, column in zip(titles, zip(*variants.values(), strict=True), strict=True)
        ]
        for part in _fitting(columns, room):
            more = " (continued)" if tables and part[0] is not columns[0] else ""
            table = Table(
                box=SIMPLE_HEAD, pad_edge=False, title=f"{study.title}: {dataset}{more}", title_justify="left"
            )
            table.add_column("", no_wrap=True)
            for title, *_ in part:
                table.add_column(title, justify="right", no_wrap=True)
            for label, *texts in zip(labels, *(column[1:] for column in part), strict=True):
                table.add_row(label, *texts)
            tables.append(table)
    return tables


def _narrow(title: str) -> str:
    """A column's title in lines hardly wider than its numbers."""
    return "\n".join(textwrap.wrap(title.replace(",", ""), HEAD_WIDTH, break_long_words=False, break_on_hyphens=False))


def _fitting(columns: Sequence[Sequence[str]], room: int) -> list[list[Sequence[str]]]:
    """Columns (title, then texts) in parts that are no wider than `room`; a part has at least one."""
    parts: list[list[Sequence[str]]] = []
    left = 0
    for column in columns:
        wide = COLUMN_GAP + max(len(line) for text in column for line in text.split("\n"))
        if not parts or wide > left:
            parts.append([])
            left = room
        parts[-1].append(column)
        left -= wide
    return parts


def markdown(study: Study, rows: Sequence[Row], figure: str) -> str:
    """The same for documentation, with the figure's place."""
    titles, lines = _cells(study, rows)
    parts = [f"# {study.title}", study.question] if study.question else [f"# {study.title}"]
    for dataset, variants in lines.items():
        table = [f"| {dataset} | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(titles)]
        table += [f"| {label} | " + " | ".join(texts) + " |" for label, texts in variants.items()]
        parts.append("\n".join(table))
    return "\n\n".join([*parts, caption(study, rows), f"![{study.title}]({figure})"]) + "\n"


def for_figure(study: Study) -> dict[str, Any]:
    """What the figure needs of a study beside its rows."""
    titles = {measure: column_title(measure) for measure in study.columns}
    return {
        "study": study.name,
        "title": study.title,
        "question": study.question,
        "figure": list(study.figure),
        "titles": titles,
        "x_label": study.x_label,
        "seeds": list(study.seeds),
        "episodes": study.evaluation.episodes,
        "baseline": study.baseline,
    }
