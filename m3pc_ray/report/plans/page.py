"""A page with one recorded episode in it: what `m3pc plan` writes."""

from __future__ import annotations

import html
from pathlib import Path

from m3pc_ray.errors import UserError
from m3pc_ray.report.plans.record import read_plan_record
from m3pc_ray.report.plans.section import plan_section
from m3pc_ray.training.run_folder import write_atomically

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
"""A browser refuses to fetch anything, whatever the section asks for."""
_STYLE = """:root { color-scheme: light dark; }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 0 1rem 2rem; max-width: 72rem; }"""


def write_page(record: str | Path, path: str | Path) -> str:
    """Write the page of a record, one file that fetches nothing; returns a sentence on what it leaves out.

    Raises UserError where the record cannot be read or the page not be written.
    """
    found = read_plan_record(record)
    section, left_out = plan_section(found, "Plans")
    target = Path(path).expanduser()
    name = html.escape(f"{found.about['environment']}: what was considered")
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>{name}</title>",
        *(f"<style>{style}</style>" for style in (_STYLE, *section.styles)),
        f"</head><body><h1>{name}</h1>",
        section.body(),
        *(f'<script>"use strict";\n{script}</script>' for script in section.scripts),
        "</body></html>\n",
    ]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, "\n".join(parts))
    except OSError as error:
        raise UserError(f"{path}: cannot write the page: {error.strerror or error}") from error
    return left_out
