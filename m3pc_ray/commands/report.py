"""`m3pc report`: runs and sweeps as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m3pc_ray.report.page.sweep import SweepResults

SUMMARY = "write runs and sweeps as one HTML page that works offline"
DESCRIPTION = """\
Writes one self-contained HTML page: scores with intervals, learning curves with seeds, exploration, losses by mask,
throughput and waiting, sweeps, configuration, versions, and commands to make it all again. Open it from disk, send it:
it fetches nothing. Runs of the same settings with different seeds are averaged; runs that still go on will do.

  m3pc report runs/hopper-online --out report.html
  m3pc report runs/online-s0 runs/online-s1 runs/online-s2 --out report.html      (mean and band over three seeds)
  m3pc report runs/hopper runs/hopper-online sweeps/lambda --out report.html

A sweep's folder brings its conclusions and the runs of its trials. docs/report.md explains the page."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or of a sweep")
    parser.add_argument(
        "--out", required=True, metavar="FILE.html", help="page to write; one that is there is replaced"
    )
    parser.add_argument("--title", default="", help="heading of the page (default: data set and kind of the runs)")


def run(arguments: argparse.Namespace) -> int:
    """Reads, writes the page, prints its path and size."""
    import os

    from m3pc_ray.errors import UserError
    from m3pc_ray.report.page.page import Contents, render, write_page
    from m3pc_ray.report.page.runs import group_runs, has_metrics, read_run
    from tune.folder import RESULTS, SweepFolder

    if Path(arguments.out).expanduser().is_dir():
        raise UserError(
            f"--out {arguments.out}: is a folder; name a file, such as {arguments.out.rstrip('/')}/report.html"
        )
    folders: dict[str, Path] = {}
    sweeps, commands = [], {}
    for given in arguments.runs:
        sweep = SweepFolder(given)
        if not sweep.exists(RESULTS):
            folders.setdefault(os.path.realpath(Path(given).expanduser()), Path(given))
            continue
        results = _sweep_results(sweep)
        sweeps.append(results)
        commands[f"Sweep {results.name}"] = f"m3pc sweep --config {given}/sweep.yaml --out {given.rstrip('/')}-again"
        trials = sorted((sweep.path / "trials").glob("*")) if sweep.path is not None else []
        for trial in trials:
            if has_metrics(trial):
                folders.setdefault(os.path.realpath(trial), trial)
    words = ["m3pc", "report", *arguments.runs, "--out", arguments.out]
    words += ["--title", arguments.title] if arguments.title else []
    groups = group_runs([read_run(folder) for folder in folders.values()])
    page = render(Contents(groups, sweeps, commands, words, arguments.title))
    path = write_page(arguments.out, page)
    print(f"{path}  {len(page.encode()) / 1e6:.2f} MB")
    return 0


def _sweep_results(folder: object) -> SweepResults:
    from m3pc_ray.report.page.sweep import SweepResults
    from tune.conclusions.ranking import conclude_from
    from tune.conclusions.reports import read_reports
    from tune.conclusions.tables import json_remarks, json_rows
    from tune.folder import RESULTS, SweepFolder
    from tune.results import read_results

    assert isinstance(folder, SweepFolder)
    source = folder.shown(RESULTS)
    results = read_reports(read_results(folder), source)
    conclusions = conclude_from(results, "mean", source)
    return SweepResults(
        name=results.description.name,
        names=results.description.varied,
        scales=results.description.scales,
        rows=json_rows(results, conclusions, "mean"),
        remarks=json_remarks(results, conclusions),
    )
