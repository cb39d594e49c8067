"""The plan viewer on the page: the newest episode that `m3pc plan` recorded of each group of runs."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from m3pc_ray.report.page.runs import Group
from m3pc_ray.report.page.section import Section
from m3pc_ray.report.plans.record import read_plan_record
from m3pc_ray.report.plans.section import plan_section


def plan_sections(groups: Sequence[Group]) -> list[Section]:
    """One section a group with records, in their order; older records are named, since each would add megabytes.

    Raises UserError where the newest record is damaged.
    """
    found = [(group, records) for group in groups if (records := plan_records(group))]
    sections = []
    for group, records in found:
        title = "Plans" if len(found) == 1 else f"Plans: {group.label}"
        section, _ = plan_section(read_plan_record(records[0]), title)
        more = f" (<code>m3pc plan --record FILE</code> shows {len(records) - 1} older)" if len(records) > 1 else ""
        source = f'<p class="muted">From {html.escape(str(records[0]))}{more}.</p>'
        sections.append(replace(section, html=f"{source}\n{section.html}"))
    return sections


def plan_records(group: Group) -> list[Path]:
    """`plans/*.npz` of all runs of the group, the newest first."""
    found = [path for run in group.runs for path in (run.folder.path / "plans").glob("*.npz")]
    return sorted(found, key=lambda path: (path.stat().st_mtime, str(path)), reverse=True)
