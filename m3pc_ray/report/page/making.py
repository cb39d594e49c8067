"""How the runs were made: commands to make them again, settings, versions."""

from __future__ import annotations

import html
import shlex
from collections.abc import Mapping, Sequence

from m3pc_ray.configuration import to_yaml
from m3pc_ray.report.page.runs import Group, ReportedRun, changed_settings
from m3pc_ray.report.page.section import Section
from m3pc_ray.report.page.tables import Cell, cards


def configuration_section(groups: Sequence[Group]) -> Section:
    """Settings that are not the defaults, the whole configuration of every group folded away, versions."""
    parts = []
    for group in groups:
        run = group.runs[0]
        rows = [
            {
                "Setting": Cell(name),
                "Value": Cell(str(value)),
                "Default": Cell("none" if default is None else str(default)),
            }
            for name, (value, default) in changed_settings(run).items()
        ]
        heading = f"<h3>{html.escape(group.label)}</h3>" if len(groups) > 1 else ""
        seeds = f", of {group.seeds}; here with seed {run.seed}" if len(group.runs) > 1 else ""
        parts.append(
            f"{heading}<details><summary>{len(rows)} settings that are not the defaults</summary>{cards(rows)}"
            "</details>\n"
            f"<details><summary>The whole configuration, config.yaml{html.escape(seeds)}</summary>"
            f"<pre>{html.escape(to_yaml(run.config))}</pre></details>"
        )
    return Section("Configuration and versions", "\n".join([_versions(groups), *parts]))


def commands_section(groups: Sequence[Group], sweeps: Mapping[str, str], report: Sequence[str]) -> Section:
    """Commands that make the runs again.

    Args:
        groups: of the page.
        sweeps: command by name of every sweep, whose trials are made by it and not one by one.
        report: words of the command that made this page.
    """
    parts = [
        "<p>Each run's <code>config.yaml</code> is complete, so these make the same runs again, seeds included. Runs "
        "of one process (<code>--serial</code>) come out bit for bit on the same machine; runs on Ray differ in the "
        "order in which steps arrive.</p>"
    ]
    for name, command in sweeps.items():
        parts.append(f"<h3>{html.escape(name)}</h3>\n<pre>{html.escape(command)}</pre>")
    for group in groups:
        commands = [command for run in group.runs if (command := again(run))]
        if not sweeps:
            parts.append(f"<h3>{html.escape(group.label)}</h3>\n<pre>{html.escape(chr(10).join(commands))}</pre>")
        if any(run.kind == "pretrain" and run.config.pretrain.components != "both" for run in group.runs):
            parts.append(
                "<p>A part of it was not trained: <code>--start-from RUN</code> names the run it came from.</p>"
            )
    parts.append(f"<h3>This page</h3>\n<pre>{html.escape(shlex.join(report))}</pre>")
    return Section("Commands", "\n".join(parts))


def again(run: ReportedRun) -> str:
    """The command that makes a run again, into a folder beside it."""
    path = str(run.folder.path)
    words = ["m3pc", run.kind, "--config", str(run.folder.config_path), "--out", f"{path.rstrip('/')}-again"]
    if run.kind == "finetune":
        words[2:2] = ["--run", str(run.summary.get("source", "RUN"))]
        words += ["--serial"] if run.summary.get("serial") else []
    return shlex.join(words)


def _versions(groups: Sequence[Group]) -> str:
    found: dict[str, dict[str, list[str]]] = {}
    for group in groups:
        for run in group.runs:
            for package, version in run.summary.get("versions", {}).items():
                found.setdefault(package, {}).setdefault(str(version), []).append(run.folder.path.name)
    said = []
    for package, versions in found.items():
        if len(versions) == 1:
            said.append(f"{package} {next(iter(versions))}")
        else:
            each = (f"{version} in {', '.join(dict.fromkeys(runs))}" for version, runs in versions.items())
            said.append(f"<b>{package}</b> ({html.escape('; '.join(each))})")
    return f"<p>Made with {', '.join(said)}.</p>" if said else ""
