"""`m3pc bench`: our speed against the plain form of the same work, on this machine."""

from __future__ import annotations

import argparse
import importlib
from types import ModuleType
from typing import Any

SUMMARY = "compare our speed with the plain form of the same work, on this machine"
DESCRIPTION = """\
Times ours and a plain form of the same work in turn, in one process, and prints medians, their ratio and how far ours
is from what its matrix products alone would take here.

  m3pc bench planner --quick
  m3pc bench planner --width 512 --candidates 625
  m3pc bench pretrain --json pretrain.json
  m3pc bench critic
  m3pc bench sac
  m3pc bench replay
  m3pc bench replay-log --folder /path/to/the/disk/of/runs
  m3pc bench rollout
  m3pc bench scaling --figure scaling.png
  m3pc bench million --figure million.png
  m3pc bench learning --dataset hopper_medium-v2.hdf5 --budget 120 --figure learning.png
  m3pc bench budget --run runs/hopper --figure budget.png
  m3pc bench backward --candidates 128 --environments 1 8
  m3pc bench precision --run runs/hopper --episodes 10
  m3pc bench recording --run runs/hopper
  m3pc bench shared-memory --datasets hopper_medium-v2.hdf5
  m3pc bench sizing --run runs/hopper --workers 16 64 --planners 1 2

`replay-log`, `scaling`, `million`, `learning`, `budget`, `backward`, `precision`, `recording`, `shared-memory` and
`sizing` print tables of their own. Columns of the others: ours, plain: median seconds of one unit of work, ± half the
distance between the quartiles in percent; ratio: plain / ours; work: arithmetic of the matrix products of ours and
plain; floor: what ours would take at the device's rate for large matrix products, measured in this run, and how many
times that it takes.
docs/performance.md explains them."""

BENCHMARKS = (
    "planner",
    "pretrain",
    "critic",
    "sac",
    "replay",
    "replay-log",
    "rollout",
    "scaling",
    "million",
    "learning",
    "budget",
    "backward",
    "precision",
    "recording",
    "shared-memory",
    "sizing",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every benchmark's options below its name, with those that all share."""
    chosen = parser.add_subparsers(dest="benchmark", required=True, metavar="{" + ",".join(BENCHMARKS) + "}")
    for name in BENCHMARKS:
        module = _load(name)
        documentation = (module.__doc__ or "").strip()
        own = chosen.add_parser(
            name,
            help=documentation.partition("\n")[0],
            description=documentation,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        own.add_argument("--quick", action="store_true", help="the cases that matter most, within 50 seconds")
        if not hasattr(module, "measure"):  # those choose their own time
            own.add_argument("--seconds", type=float, metavar="S", help="for each case (default: 10; quick: 3)")
        own.add_argument("--threads", type=int, default=1, metavar="K", help="CPU threads of torch (default: 1)")
        own.add_argument("--device", default="cpu", help="torch device (default: cpu)")
        own.add_argument("--json", metavar="FILE", help='also write {"rows": [...], "environment": {...}}')
        module.add_arguments(own)


def run(arguments: argparse.Namespace) -> int:
    """Measures, prints the table, writes --json."""
    import torch
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from m3pc_ray.commands._output import write_rows
    from m3pc_ray.errors import UserError

    if arguments.threads < 1:
        raise UserError(f"--threads is {arguments.threads}; it must be at least 1")
    try:
        device = torch.device(arguments.device)
    except RuntimeError as error:
        raise UserError(f"--device is {arguments.device!r}; it must be cpu, cuda or cuda:<number>") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device is {arguments.device}, but torch sees no CUDA device here")
    torch.set_num_threads(arguments.threads)
    module, measuring = _load(arguments.benchmark), _load("measuring")
    console = Console()
    rows: list[dict[str, Any]] = []
    with Progress(TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("preparing")
        if hasattr(module, "measure"):
            rows = module.measure(arguments, lambda name: progress.update(task, description=name))
        else:
            seconds = arguments.seconds if arguments.seconds is not None else 3.0 if arguments.quick else 10.0
            for case in module.cases(arguments):
                progress.update(task, description=case.name)
                rows.append(measuring.compare(case, seconds))
                progress.update(task, description="preparing")
    environment = measuring.environment()
    console.print(module.table(rows) if hasattr(module, "table") else _table(arguments.benchmark, rows))
    console.print("  ".join(f"{name} {value}" for name, value in environment.items() if value is not None))
    if arguments.json is not None:
        write_rows(arguments.json, rows, environment=environment)
    if getattr(arguments, "figure", None) is not None:
        module.draw(rows, arguments.figure)
    return 0


def _load(name: str) -> ModuleType:
    """A module of the folder `benchmarks/`, which is installed inside the package."""
    return importlib.import_module(f"m3pc_ray.benchmarks.{name.replace('-', '_')}")


def _table(name: str, rows: list[dict[str, Any]]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"m3pc bench {name}: seconds a unit, medians",
        caption=f"work: matrix products of ours / plain, in {rows[0]['arithmetic_unit']}",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("case", min_width=12)
    for column in ("ours", "plain", "ratio", "work", "floor"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        work = (f"{row[f'{side}_arithmetic']:.3g}" for side in ("ours", "plain"))
        table.add_row(
            row["case"],
            f"{_time(row['ours_s'])} ±{100 * row['ours_spread']:.0f}%",
            f"{_time(row['plain_s'])} ±{100 * row['plain_spread']:.0f}%",
            f"{row['ratio']:.2f}",
            " / ".join(work) if row["ours_arithmetic"] else "",
            f"{_time(row['floor_s'])} x{row['over_floor']:.1f}" if "floor_s" in row else "",
        )
    return table


def _time(seconds: float) -> str:
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
