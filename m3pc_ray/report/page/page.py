"""The page: sections in order, scripts and styles embedded, nothing fetched."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from m3pc_ray import __version__
from m3pc_ray.errors import UserError
from m3pc_ray.report.page.exploration import exploration_section
from m3pc_ray.report.page.learning import learning_section
from m3pc_ray.report.page.making import commands_section, configuration_section
from m3pc_ray.report.page.panels import losses_section, operation_section
from m3pc_ray.report.page.plans import plan_sections
from m3pc_ray.report.page.runs import Group
from m3pc_ray.report.page.section import Section
from m3pc_ray.report.page.summary import summary_section
from m3pc_ray.report.page.sweep import SweepResults, sweep_section
from m3pc_ray.training.run_folder import write_atomically

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; media-src data:"
"""Content security policy of the page: a browser refuses to fetch anything, whatever a section asks for."""
SECTIONS: tuple[Callable[[Sequence[Group]], Section | None], ...] = (
    summary_section,
    learning_section,
    exploration_section,
    losses_section,
    operation_section,
)
"""In their order on the page, before plans and how the runs were made; None where the runs have nothing to show."""


@dataclass(frozen=True)
class Contents:
    """What a page is about."""

    groups: Sequence[Group]
    sweeps: Sequence[SweepResults] = ()
    sweep_commands: dict[str, str] = field(default_factory=dict)
    """What makes each sweep again, by name."""
    command: Sequence[str] = ("m3pc", "report")
    """Words of the command that makes the page."""
    title: str = ""


def render(contents: Contents) -> str:
    """The page as HTML."""
    groups = contents.groups
    sections = [section for build in SECTIONS if groups and (section := build(groups)) is not None]
    sections[1:1] = [sweep_section(sweep) for sweep in contents.sweeps]
    sections += plan_sections(groups)
    if groups:
        sections.append(configuration_section(groups))
    sections.append(commands_section(groups, contents.sweep_commands, contents.command))
    return document(contents.title or _title(contents), _subtitle(contents), sections)


def document(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """A whole HTML document. Raises ValueError where two sections share a title."""
    identities = [section.identity for section in sections]
    if len(set(identities)) < len(identities):
        raise ValueError(f"two sections of the page share a title: {identities}")
    styles = dict.fromkeys([asset("uPlot.min.css"), asset("page.css"), *(s for each in sections for s in each.styles)])
    scripts = dict.fromkeys(
        [asset("uPlot.iife.min.js"), asset("charts.js"), *(s for each in sections for s in each.scripts)]
    )
    links = "".join(f'<a href="#{each.identity}">{html.escape(each.title)}</a>' for each in sections)
    made = datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{html.escape(title)}</title>",
            *(f"<style>\n{style}\n</style>" for style in styles),
            "</head>",
            "<body>",
            f'<header><h1>{html.escape(title)}</h1><p class="muted">{html.escape(subtitle)}</p>',
            f"<nav>{links}</nav></header>",
            "<main>",
            *(section.body() for section in sections),
            "</main>",
            f"<footer>Made on {made} by m3pc_ray {__version__}. Charts: uPlot, MIT license. Hover or tap a chart for "
            "values; drag across one to zoom, double-click to zoom out; click a name to hide its line.</footer>",
            f"<!-- uPlot\n{asset('uPlot.LICENSE')}\n-->",
            *(f'<script>"use strict";\n{script}\n</script>' for script in scripts),
            "</body>",
            "</html>",
            "",
        ]
    )


def write_page(path: str | Path, text: str) -> Path:
    """Writes the file, complete or not at all. Raises UserError where it cannot be written."""
    target = Path(path).expanduser()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, text)
    except OSError as error:
        raise UserError(f"{path}: cannot write the page: {error.strerror or error}") from error
    return target


def asset(name: str) -> str:
    """The text of a file beside this module, installed with the package."""
    return (files("m3pc_ray.report.page") / "assets" / name).read_text(encoding="utf-8")


def _title(contents: Contents) -> str:
    tasks = dict.fromkeys(run.dataset or run.environment for group in contents.groups for run in group.runs)
    kinds = dict.fromkeys(group.kind for group in contents.groups)
    names = {"pretrain": "pretraining", "finetune": "online finetuning"}
    what = " and ".join(names.get(kind, kind) for kind in kinds)
    if contents.sweeps:
        return "Sweep " + ", ".join(sweep.name for sweep in contents.sweeps)
    return f"{', '.join(tasks)}: {what}"


def _subtitle(contents: Contents) -> str:
    runs = [run for group in contents.groups for run in group.runs]
    if not runs:
        return "What the settings of the sweep score."
    environments = ", ".join(dict.fromkeys(run.environment for run in runs if run.environment))
    number = "one run" if len(runs) == 1 else f"{len(runs)} runs in {len(contents.groups)} settings"
    if len(runs) > 1 and len(contents.groups) == 1:
        number = f"{len(runs)} runs of the same settings"
    return f"{environments}; {number}." if environments else f"{number}."
