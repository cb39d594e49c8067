"""`m3pc study FILE`: variants of a run's settings, trained and measured on several data sets, in one table."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from m3pc_ray.studies.definition import Study
    from m3pc_ray.studies.records import StudyFolder

SUMMARY = "train and measure variants of settings with equal budgets, in one table and one figure"
DESCRIPTION = """\
Trains the variants of a study file on its data sets and seeds, measures them, writes OUT/<study>.md, .json and .png.

  m3pc study configs/studies/specialised.yaml --out studies --dataset hopper-medium=data/hopper-medium.hdf5
  m3pc study studies/data_efficiency studies/heteromodal --out studies --only 'hopper-*'
  m3pc study studies/deviations --out studies --table

What is finished is kept: the same command goes on where it stopped. Studies with one OUT share runs of the same name
and settings; several processes may work on one OUT. docs/studies.md explains the files."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own options, and settings of every variant."""
    from m3pc_ray.configuration import add_config_arguments

    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="study file, or a shipped one such as studies/specialised"
    )
    parser.add_argument("--out", required=True, metavar="OUT", help="folder of runs, records, tables and figures")
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="NAME=DATA",
        help="data set (a name or a path) in place of the file's that has this name; repeatable",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="cells to make, such as 'hopper-*'; repeatable"
    )
    parser.add_argument("--table", action="store_true", help="train and measure nothing: show what is there")
    parser.add_argument("--device", help="torch device (default: the file's)")
    parser.add_argument("--threads", type=int, default=1, metavar="K", help="CPU threads of measuring (default: 1)")
    parser.add_argument("--json", metavar="FILE", help='also write {"rows": [...]} of all studies')
    sections = ["data", "model", "masks", "pretrain", "critic", "planner", "evaluation", "logging"]
    add_config_arguments(parser, sections)


def run(arguments: argparse.Namespace) -> int:
    """Makes what is missing, then tables and figures."""
    from rich.console import Console

    from m3pc_ray.commands._output import check_json, write_rows
    from m3pc_ray.configuration import given_overrides
    from m3pc_ray.errors import UserError
    from m3pc_ray.studies.conduct import chosen_cells, conduct
    from m3pc_ray.studies.records import StudyFolder
    from m3pc_ray.studies.study_file import load_study

    if arguments.threads < 1:
        raise UserError(f"--threads is {arguments.threads}; at least 1 is needed")
    check_json(arguments.json)
    data = _data_sets(arguments.dataset)
    settings = given_overrides(arguments) | ({} if arguments.device is None else {"device": arguments.device})
    studies = [load_study(file, data, settings) for file in arguments.files]
    names = [study.name for study in studies]
    if len(set(names)) < len(names):
        raise UserError("two study files have the same name, so their tables would overwrite each other")
    for name in data:
        if not any(name in study.datasets for study in studies):
            known = ", ".join(dict.fromkeys(each for study in studies for each in study.datasets))
            raise UserError(f"--dataset {name}: no data set of the study has this name; there are: {known}")
    cells = chosen_cells(studies, arguments.only)
    folder, console = StudyFolder(arguments.out), Console()
    if arguments.table and not folder.path.is_dir():
        raise UserError(f"--out {arguments.out}: no such folder; --table shows what is in a study's")
    if not arguments.table:
        try:
            busy = conduct(folder, cells, console, arguments.device, arguments.threads)
        except KeyboardInterrupt:
            console.print("stopped; what is done is kept, and the same command goes on from there", highlight=False)
            raise
        if busy:
            console.print(f"other processes are at {', '.join(busy)}; --table shows them when they are done")
    rows = [row for study in studies for row in _report(folder, study, console)]
    if arguments.json:
        write_rows(arguments.json, rows)
    return 0


def _report(folder: StudyFolder, study: Study, console: Console) -> list[dict[str, Any]]:
    """Prints and writes what is measured of a study; its rows."""
    from m3pc_ray.commands._output import write_rows
    from m3pc_ray.report.study import study_figure
    from m3pc_ray.studies.results import study_rows
    from m3pc_ray.studies.tables import caption, for_figure, markdown, study_tables
    from m3pc_ray.training.run_folder import write_atomically

    rows, facts = study_rows(folder, study), for_figure(study)
    for table in study_tables(study, rows, console.width):
        console.print(table)
    console.print(caption(study, rows), highlight=False, markup=False)
    write_rows(folder.path / f"{study.name}.json", rows, study=facts)
    write_atomically(folder.path / f"{study.name}.md", markdown(study, rows, f"{study.name}.png"))
    study_figure(rows, facts, folder.path / f"{study.name}.png")
    console.print(f"written: {folder.path / study.name}.md, .json and .png", highlight=False, soft_wrap=True)
    return [{"study": study.name, **row} for row in rows]


def _data_sets(given: list[str]) -> dict[str, str]:
    from m3pc_ray.errors import UserError

    data = {}
    for text in given:
        name, separator, reference = text.partition("=")
        if not separator or not name or not reference:
            raise UserError(f"--dataset {text}: must be NAME=DATA, such as hopper-medium=/data/hopper.hdf5")
        data[name] = reference
    return data
