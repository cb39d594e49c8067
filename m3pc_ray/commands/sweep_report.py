"""`m3pc sweep-report`: what a sweep found out, again, from its results alone."""

from __future__ import annotations

import argparse

SUMMARY = "print a sweep's table, and draw it, from its results.parquet alone"
DESCRIPTION = """\
Reads DIR/results.parquet and nothing else: a folder that was copied elsewhere will do, with a sweep that still runs
too. Prints a row a setting with its mean and 95 % interval over seeds, and what the numbers do not say; writes
DIR/table.json, DIR/table.md and DIR/figures/*.png again.

  m3pc sweep-report sweeps/lambda --statistic iqm

docs/sweeps.md says how the intervals are computed and how to read them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("folder", metavar="DIR", help="folder of the sweep")
    parser.add_argument(
        "--statistic",
        choices=["mean", "iqm"],
        default="mean",
        help="mean over tasks of the mean over seeds, or interquartile mean of all (default: mean)",
    )
    parser.add_argument("--json", metavar="FILE", help='also write {"rows": [...], "remarks": [...]} here')


def run(arguments: argparse.Namespace) -> int:
    """Concludes, prints, writes --json."""
    from rich.console import Console

    from m3pc_ray.commands._output import write_rows
    from tune.conclusions.conclude import conclude
    from tune.folder import SweepFolder

    concluded = conclude(SweepFolder(arguments.folder), arguments.statistic)
    concluded.print(Console())
    if arguments.json:
        write_rows(arguments.json, concluded.rows(), remarks=concluded.remarks())
    return 0
