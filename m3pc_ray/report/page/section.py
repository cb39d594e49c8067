"""One section of the page: what it shows, what it runs, what it reads."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading of its own.

    Sections of one page may name the same script or style: it is embedded once, where it first appears. Scripts run in
    the page's order after all sections and their data are in the document; each runs in strict mode and should keep
    its names to itself (`(() => { ... })();`). Nothing may be fetched: no URLs in any of them.
    """

    title: str
    """Its heading; no two sections of a page share one."""
    html: str
    """What stands under the heading; text in it is escaped by who writes it."""
    scripts: list[str] = field(default_factory=list)
    """JavaScript, inline."""
    styles: list[str] = field(default_factory=list)
    """CSS, inline; colours are the page's variables (page.css), which know light and dark."""
    data: dict[str, Any] = field(default_factory=dict)
    """What its scripts read: `JSON.parse(document.getElementById(data_id).textContent)`. Finite numbers only."""

    @property
    def identity(self) -> str:
        """The title as an HTML id, such as `learning-curves`."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    @property
    def data_id(self) -> str:
        """Id of the element that holds the section's data, such as `data-learning-curves`."""
        return f"data-{self.identity}"

    def body(self) -> str:
        """The section as HTML, its data with it. Raises ValueError where the data holds numbers that are not finite."""
        parts = [f'<section id="{self.identity}">', f"<h2>{html.escape(self.title)}</h2>", self.html, "</section>"]
        if self.data:
            parts.append(f'<script type="application/json" id="{self.data_id}">{inline_json(self.data)}</script>')
        return "\n".join(parts)


def inline_json(data: Any) -> str:
    """JSON that an HTML parser reads as one piece whatever its texts hold: `<` is written as an escape."""
    return json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
