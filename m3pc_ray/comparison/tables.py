"""The table of a comparison: on the terminal, and in Markdown for documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from m3pc_ray.comparison.method import OFFLINE
from m3pc_ray.comparison.quoted import NOTE
from m3pc_ray.comparison.results import DIGITS, SUM, Row

COLUMNS = ("method", "online steps", "score", "95 % interval", "seeds", "wall s", "CPU s", "updates")
DROPPED_FIRST = ("updates", "seeds", "wall s", "95 % interval")
"""Columns that give way, in this order, where a terminal is too narrow for all."""
GAP, EDGES = 3, 2
"""Characters between two columns, and at both edges together, of a table in rich's box SIMPLE_HEAD."""


def caption(settings: Mapping[str, Any], rows: Sequence[Row], quoted: bool) -> str:
    """What the numbers are."""
    evaluation, threads = settings["evaluation"], settings["threads"]
    text = (
        f"Scores: {evaluation['episodes']} episodes from seed {evaluation['seed']}, played alike for every method. "
        "Interval: bootstrap of the mean over seeds, or over episodes where there is one seed (marked *). "
        f"Seconds: of training up to there, {threads} thread{'s' if threads > 1 else ''}, episodes of the evaluation "
        "excluded; CPU seconds with all processes that training started. The rows of one training share its seconds."
    )
    if any(row["kind"] == "return" for row in rows):
        text += " Where no reference returns are known the return stands in place of the score."
    if any(row["kind"] == "success" for row in rows):
        text += " Of manipulation tasks the share of episodes solved stands there."
    return f"{text} {NOTE}" if quoted else text


def _texts(row: Row) -> dict[str, str]:
    digits = DIGITS[row["kind"]]
    single = "*" if row["over"] == "episodes" else ""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:,.0f}"

    interval = "-" if row["low"] is None else f"{row['low']:.{digits}f} to {row['high']:.{digits}f}{single}"
    return {
        "method": row["label"],
        "online steps": "offline" if row["point"] == OFFLINE else f"{row['point']:,}",
        "score": f"{row['mean']:.{digits}f}",
        "95 % interval": interval,
        "seeds": str(len(row["seeds"])),
        "wall s": number(row["wall_seconds_total"]),
        "CPU s": number(row["cpu_seconds_total"]),
        "updates": number(row["updates"]),
    }


def _title(dataset: str, rows: Sequence[Row]) -> str:
    return f"sum over {rows[0]['datasets']} data sets" if dataset == SUM else dataset


def _by_data_set(rows: Sequence[Row]) -> dict[str, list[Row]]:
    blocks: dict[str, list[Row]] = {}
    for row in rows:
        blocks.setdefault(row["dataset"], []).append(row)
    return blocks


def comparison_tables(rows: Sequence[Row], width: int) -> list[Table]:
    """A table a data set and one of the sums, for a terminal of `width` columns; what finds no room is left out."""
    lines = [_texts(row) for row in rows]
    wide = {name: max(len(name), *(len(line[name]) for line in lines)) for name in COLUMNS} if lines else {}
    shown = [*COLUMNS]
    for name in DROPPED_FIRST:
        if lines and sum(wide[each] for each in shown) + GAP * (len(shown) - 1) + EDGES > width:
            shown.remove(name)
    tables = []
    for dataset, block in _by_data_set(rows).items():
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=_title(dataset, block), title_justify="left")
        for name in shown:
            table.add_column(name, justify="left" if name == "method" else "right", no_wrap=name != "method")
        for row in block:
            texts = _texts(row)
            table.add_row(*(texts[name] for name in shown))
        tables.append(table)
    return tables


def quoted_table(quoted: Sequence[Row]) -> Table:
    """What others have published on D4RL's data of the same tasks; the sources are in the Markdown."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="quoted, on D4RL's own data", title_justify="left")
    for number, name in enumerate(_quoted_head(quoted)):
        text = name.replace("-", "\n").replace(" ", "\n")
        table.add_column(text, justify="left" if number == 0 else "right", no_wrap=number > 0)
    for row in quoted:
        table.add_row(row["label"], *_quoted_texts(row))
    return table


def _quoted_head(quoted: Sequence[Row]) -> list[str]:
    return ["method", "online steps", *quoted[0]["scores"], "sum of six"]


def _quoted_texts(row: Row) -> list[str]:
    steps = f"{row['environment_steps']:,}" if row["environment_steps"] else "offline"
    scores = [*row["scores"].values(), row["sum_of_six"]]
    return [steps, *("-" if score is None else f"{score:.1f}" for score in scores)]


def markdown(rows: Sequence[Row], quoted: Sequence[Row], settings: Mapping[str, Any], figure: str) -> str:
    """The same for documentation, with the figure's place."""
    parts = ["# Comparison"]
    blocks = _by_data_set(rows)
    for dataset, block in blocks.items():
        lines = [f"| {_title(dataset, block)} | " + " | ".join(COLUMNS[1:]) + " |"]
        lines.append("|---|" + "---:|" * (len(COLUMNS) - 1))
        lines += ["| " + " | ".join(_texts(row).values()) + " |" for row in block]
        parts.append("\n".join(lines))
    if quoted:
        head = [*_quoted_head(quoted), "source"]
        lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 2) + "---|"]
        for row in quoted:
            lines.append("| " + " | ".join([f"{row['label']} (quoted)", *_quoted_texts(row), row["source"]]) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, caption(settings, rows, bool(quoted)), f"![comparison]({figure})"]) + "\n"
