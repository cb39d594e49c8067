"""Tables that become cards on a phone."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """Text, and less important text beside it; both are escaped here."""

    text: str
    more: str = ""


def cards(rows: Sequence[Mapping[str, Cell]], strong: Sequence[bool] = ()) -> str:
    """A table by column name; on a narrow screen every row is a card under its first cell. Nothing without rows."""
    if not rows:
        return ""
    names = list(rows[0])
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    lines = []
    for place, row in enumerate(rows):
        cells = [_cell(name, row[name], first=name == names[0]) for name in names]
        marked = ' class="strong"' if place < len(strong) and strong[place] else ""
        lines.append(f"<tr{marked}>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table class="page-table cards"><thead><tr>{head}</tr></thead>\n<tbody>'
        + "\n".join(lines)
        + "</tbody></table></div>"
    )


def _cell(name: str, cell: Cell, first: bool) -> str:
    more = f"<small>{html.escape(cell.more)}</small>" if cell.more else ""
    kind = ' class="title"' if first else ""
    inside = f"<div>{html.escape(cell.text)}{'<br>' if more else ''}{more}</div>" if cell.text or more else ""
    return f'<td{kind} data-name="{html.escape(name, quote=True)}">{inside}</td>'
