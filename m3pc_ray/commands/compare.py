"""`m3pc compare`: other methods on the same data, with the same evaluation and accounting, in one growing table."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from m3pc_ray.comparison.folder import ComparisonFolder
    from m3pc_ray.comparison.plan import Given

SUMMARY = "train other methods on the same data beside M³PC: scores, seconds, environment steps in one table"
DESCRIPTION = """\
Trains methods on data sets with equal evaluation and accounting, and writes OUT/comparison.md, .json, .png, .parquet.

  m3pc compare --data hopper-medium.hdf5 --methods m3pc,td3+bc,bc --seeds 0,1 --online-steps 10000 --out compare
  m3pc compare --out compare --methods iql                   adds a method to the table, on its data sets and seeds
  m3pc compare --out compare --data walker2d-medium.hdf5     adds a data set
  m3pc compare --out compare --table                         trains nothing: shows what is there

What is finished is kept: the same command goes on where it stopped, and what is left out is as OUT has it. Several
processes may work on one OUT. docs/comparison.md has the methods, their budgets and what they cost."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options."""
    parser.add_argument("--out", required=True, metavar="OUT", help="folder of the comparison")
    parser.add_argument("--data", action="append", default=[], metavar="REF", help="data set; repeatable")
    parser.add_argument(
        "--methods", default="", metavar="A,B", help="methods to train (default: those of OUT, or m3pc); all: every one"
    )
    parser.add_argument("--seeds", default="", metavar="0,1", help="training seeds (default: those of OUT, or 0)")
    parser.add_argument("--online-steps", type=int, metavar="N", help="environment steps online (default: 0)")
    parser.add_argument(
        "--evaluate-every", type=int, metavar="N", help="environment steps between evaluations (default: 5000)"
    )
    parser.add_argument("--episodes", type=int, metavar="N", help="episodes of every evaluation (default: 10)")
    parser.add_argument("--threads", type=int, metavar="K", help="CPU threads of every training (default: 1)")
    parser.add_argument(
        "--updates",
        action="append",
        default=[],
        metavar="NAME=N",
        help="offline updates of a method, such as iql=20000 or m3pc.btm=4000, in place of its default; repeatable",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings for m3pc, sizes for instance")
    parser.add_argument("--table", action="store_true", help="train nothing: show what is there")
    parser.add_argument("--json", metavar="FILE", help='also write {"rows": [...]}')


def run(arguments: argparse.Namespace) -> int:
    """Makes what is missing, then table and figure."""
    from rich.console import Console

    from m3pc_ray.commands._output import check_json
    from m3pc_ray.comparison.conduct import conduct
    from m3pc_ray.comparison.folder import ComparisonFolder
    from m3pc_ray.comparison.plan import make_plan
    from m3pc_ray.errors import UserError

    check_json(arguments.json)
    folder, console = ComparisonFolder(arguments.out), Console()
    if arguments.table:
        if not folder.settings():
            raise UserError(f"--out {arguments.out}: no comparison is there; --table shows what is in one")
        return _report(folder, console, arguments.json)
    plan = make_plan(folder, _given(arguments))
    try:
        busy = conduct(folder, plan, console)
    except KeyboardInterrupt:
        console.print("stopped; what is done is kept, and the same command goes on from there", highlight=False)
        raise
    if busy:
        console.print(f"other processes are at {', '.join(busy)}; --table shows them when they are done")
    return _report(folder, console, arguments.json)


def _given(arguments: argparse.Namespace) -> Given:
    from m3pc_ray.comparison.plan import DEFAULTS, Given
    from m3pc_ray.comparison.registry import METHODS
    from m3pc_ray.configuration import given_settings
    from m3pc_ray.errors import UserError

    methods = [each for each in arguments.methods.split(",") if each]
    updates: dict[str, int] = {}
    for text in arguments.updates:
        name, _, number = text.partition("=")
        if not name or not number.isdigit():
            raise UserError(f"--updates {text}: must be NAME=N, such as iql=20000")
        updates[name] = int(number)
    seeds = [each for each in arguments.seeds.split(",") if each]
    for each in seeds:
        if not each.isdigit():
            raise UserError(f"--seeds {arguments.seeds}: must be numbers from 0 on, such as 0,1")
    return Given(
        data=list(dict.fromkeys(arguments.data)),
        methods=list(METHODS) if methods == ["all"] else methods,
        seeds=list(dict.fromkeys(int(each) for each in seeds)),
        common={name: getattr(arguments, name) for name in DEFAULTS},
        updates=updates,
        settings=given_settings(arguments.config) if arguments.config else None,
    )


def _report(folder: ComparisonFolder, console: Console, json: str | None) -> int:
    """Prints and writes what is finished."""
    from m3pc_ray.commands._output import write_rows
    from m3pc_ray.comparison.quoted import quoted_rows
    from m3pc_ray.comparison.results import SUM, summarise
    from m3pc_ray.comparison.tables import caption, comparison_tables, markdown, quoted_table
    from m3pc_ray.report.comparison import comparison_figure
    from m3pc_ray.training.run_folder import write_atomically

    cells, settings = folder.read(), folder.settings()
    rows = summarise(cells)
    if not rows:
        console.print("nothing is finished yet", highlight=False)
        return 0
    datasets = [name for name in dict.fromkeys(row["dataset"] for row in rows) if name != SUM]
    quoted = quoted_rows(datasets)
    for table in comparison_tables(rows, console.width):
        console.print(table)
    if quoted:
        console.print(quoted_table(quoted))
    console.print(caption(settings, rows, bool(quoted)), highlight=False, markup=False)
    folder.write_table(cells)
    write_rows(folder.path / "comparison.json", rows, quoted=quoted, settings=settings)
    write_atomically(folder.path / "comparison.md", markdown(rows, quoted, settings, "comparison.png"))
    comparison_figure(rows, settings, folder.path / "comparison.png")
    console.print(
        f"written: {folder.path / 'comparison'}.md, .json, .png and .parquet", highlight=False, soft_wrap=True
    )
    if json:
        write_rows(json, rows, quoted=quoted, settings=settings)
    return 0
