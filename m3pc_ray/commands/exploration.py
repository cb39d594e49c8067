"""`m3pc exploration`: what exploring earned, with planning and without."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m3pc_ray.training.run_folder import RunFolder

SUMMARY = "compare what online runs collected: histograms of exploration returns"
DESCRIPTION = """\
Reads the exploration episodes of online runs, or of all trials of a sweep, and puts them together by how was explored:
with planning or without, with the model's own spread or with fixed noise. Prints a row for each and draws
exploration.png, a histogram of returns for each with the same bins: the paper's figure 4. Episodes that were cut by the
end of a run's budget are counted, but their returns are not.

  m3pc exploration sweeps/exploration sweeps/exploration_deterministic --out figures
  m3pc exploration runs/planned runs/sampled --last-steps 2000 --out figures

docs/ablations.md has the sweeps."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("paths", nargs="+", metavar="RUN|SWEEP", help="online run, or folder of a sweep of them")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where exploration.png goes")
    parser.add_argument(
        "--last-steps", type=int, metavar="N", help="only episodes that ended in a run's last N environment steps"
    )
    parser.add_argument("--json", metavar="FILE", help='also write {"rows": [...]} here, with every return')


def run(arguments: argparse.Namespace) -> int:
    """Reads, prints, draws."""
    from pathlib import Path

    from rich import box
    from rich.console import Console
    from rich.table import Table

    from m3pc_ray.commands._output import check_json, write_rows
    from m3pc_ray.errors import UserError
    from m3pc_ray.report.exploration import by_explorer, exploration_figure, online_runs, statistics

    check_json(arguments.json)
    if arguments.last_steps is not None and arguments.last_steps < 1:
        raise UserError(f"--last-steps is {arguments.last_steps}; it must be at least 1")
    rows = statistics(by_explorer(online_runs(arguments.paths), _environment_of), arguments.last_steps)
    table = Table(title="returns of exploration episodes", title_justify="left", box=box.SIMPLE)
    table.add_column("explored by")
    columns = ("runs", "episodes", "cut", "mean", "low", "median", "high", "best")
    for name in columns:
        table.add_column({"low": "10 %", "high": "90 %"}.get(name, name), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["explorer"], *(f"{row[name]:,.0f}" if name in row else "-" for name in columns))
    Console().print(table)
    print(exploration_figure(rows, Path(arguments.out).expanduser() / "exploration.png"))
    if arguments.json:
        write_rows(arguments.json, rows)
    return 0


def _environment_of(run: RunFolder) -> str:
    from m3pc_ray.training.checkpoints import load_checkpoint

    return str(load_checkpoint(run)[1]["models"]["metadata"]["environment_id"])
