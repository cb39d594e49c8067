"""`m3pc doctor`: checks an installation, its data, a configuration's fit to the machine, and a run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m3pc_ray.config import RunConfig
    from m3pc_ray.diagnosis.resources import Machine
    from m3pc_ray.diagnosis.rows import Row
    from m3pc_ray.training.run_folder import RunFolder

BUNDLED = "bundled/hopper"
SUMMARY = "check installation, Ray, GPU, simulator, data, resources and a run"
DESCRIPTION = """\
Checks what the other commands rely on and says what to do where something is wrong. Changes nothing: whatever a check
writes goes into temporary folders.

  m3pc doctor
  m3pc doctor --run runs/hopper --json doctor.json
  m3pc doctor --dataset d4rl/hopper-medium-v2 --online.rollout_workers 8
  RAY_ADDRESS=10.0.0.1:6379 m3pc doctor --config configs/demo.yaml     (joins that cluster)

Exit code 1 where a check fails, 0 otherwise, warnings included. docs/operations.md explains every check."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from m3pc_ray.configuration import add_config_arguments

    parser.add_argument("--run", metavar="RUN", help="also check this run: checkpoints, replay log, versions")
    parser.add_argument(
        "--config", metavar="FILE", help="configuration whose resources are checked (default: the run's)"
    )
    parser.add_argument("--dataset", help="data set to check beside the bundled one (setting data.dataset)")
    parser.add_argument("--no-ray", action="store_true", help="leave Ray out: nothing is started, no cluster joined")
    parser.add_argument("--working-dir", default=".", metavar="FOLDER", help="folder a job would upload (default: .)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there too")
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from rich.console import Console

    from m3pc_ray.commands._output import write_rows
    from m3pc_ray.diagnosis.rows import has_failure

    rows = _all_rows(arguments)
    Console().print(_table(rows))
    if arguments.json is not None:
        write_rows(arguments.json, [asdict(row) for row in rows])
    return 1 if has_failure(rows) else 0


def _all_rows(arguments: argparse.Namespace) -> list[Row]:
    """The rows of every check, a progress line on stderr meanwhile."""
    from functools import partial

    from rich.console import Console

    from m3pc_ray.diagnosis.datasets import check_data, load_here
    from m3pc_ray.diagnosis.drift import check_drift
    from m3pc_ray.diagnosis.gpu import check_gpu
    from m3pc_ray.diagnosis.installation import check_installation
    from m3pc_ray.diagnosis.resources import check_resources
    from m3pc_ray.diagnosis.rows import Row, guarded
    from m3pc_ray.diagnosis.runs import check_checkpoint, check_replay_log, check_versions
    from m3pc_ray.diagnosis.simulator import check_simulator
    from m3pc_ray.trajectories.episodes import Trajectories

    config, folder, rows = _settings(arguments)
    with Console(stderr=True).status("") as status:

        def add(name: str, check: Callable[[], Sequence[Row]]) -> None:
            status.update(f"checking {name}")
            rows.extend(guarded(name, check))

        add("installation", check_installation)
        add("gpu", check_gpu)
        machines: list[Machine] = []
        if arguments.no_ray:
            rows.append(Row("ray", "not checked", "left out with --no-ray"))
        else:
            add("ray", lambda: _ray(machines))
        loaded: dict[str, Trajectories] = {}

        def data(reference: str, environment: str) -> list[Row]:
            location, loaded[reference] = load_here(reference, environment, config.data.folder)
            return check_data(reference, location, loaded[reference])

        chosen = config.data.dataset or BUNDLED
        for reference, environment in {BUNDLED: "", chosen: config.data.environment}.items():
            add(f"data {reference}", partial(data, reference, environment))
        for trajectories in loaded.values():
            add(f"drift {trajectories.metadata.name}", partial(check_drift, trajectories))
        for environment in dict.fromkeys(each.metadata.environment_id for each in loaded.values()):
            add(f"simulator {environment}", partial(check_simulator, environment))
        add("upload", lambda: _upload(arguments.working_dir))
        if chosen in loaded:
            add("resources", lambda: check_resources(config, loaded[chosen], machines[0] if machines else _here()))
        else:
            rows.append(Row("resources", "not checked", f"needs the data set {chosen}"))
        if folder is not None:
            add(f"checkpoint {folder.path.name}", lambda: check_checkpoint(folder))
            if folder.kind() == "finetune":
                add(f"replay log {folder.path.name}", lambda: check_replay_log(folder))
            add(f"versions {folder.path.name}", lambda: check_versions(folder))
    return rows


def _settings(arguments: argparse.Namespace) -> tuple[RunConfig, RunFolder | None, list[Row]]:
    """The configuration to check, the run, and a row where the run's own configuration cannot be read.

    Raises UserError for a run or a file that is not there, and for a wrong setting.
    """
    from m3pc_ray.configuration import given_overrides, load_config, with_settings
    from m3pc_ray.diagnosis.rows import Row
    from m3pc_ray.errors import UserError
    from m3pc_ray.training.run_folder import RunFolder

    overrides = given_overrides(arguments)
    if arguments.dataset is not None:
        overrides["data.dataset"] = arguments.dataset
    folder = RunFolder.open(arguments.run) if arguments.run is not None else None
    if folder is None or arguments.config is not None:
        return load_config(arguments.config, overrides), folder, []
    try:
        config = folder.config()
    except UserError as error:
        advice = "restore config.yaml from a copy; the checks below use default settings"
        return load_config(None, overrides), folder, [Row("configuration", "failure", str(error), advice)]
    return with_settings(config, overrides), folder, []


def _ray(machines: list[Machine]) -> list[Row]:
    """Rows on Ray; what the cluster offers goes into `machines`."""
    from dataclasses import replace

    from actors.diagnosis import check_ray

    rows, machine = check_ray()
    if machine is not None:
        # Of a local cluster only its cores count: Ray takes a part of the memory there is for what its actors may use.
        machines.append(replace(_here(), cores=machine.cores, gpus=machine.gpus) if machine.is_local else machine)
    return rows


def _upload(folder: str) -> list[Row]:
    from actors.upload import check_upload

    return check_upload(Path(folder).expanduser())


def _here() -> Machine:
    from actors.cluster import OBJECT_STORE_BYTES
    from m3pc_ray.diagnosis.resources import this_machine

    return this_machine(OBJECT_STORE_BYTES)


def _table(rows: Sequence[Row]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "warning": "yellow", "failure": "bold red", "not checked": "dim"}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", overflow="fold", min_width=10)
    table.add_column("", no_wrap=True)
    table.add_column("found; what to do", overflow="fold", ratio=1)
    for row in rows:
        # As Text: a message may hold square brackets, which the table would take for markup.
        found = Text(row.found)
        if row.advice:
            found.append(f"\n-> {row.advice}", style="" if row.status == "ok" else colours[row.status])
        table.add_row(Text(row.name), Text(row.status, style=colours[row.status]), found)
    return table
