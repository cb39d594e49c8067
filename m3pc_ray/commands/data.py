"""`m3pc data`: what data sets there are, what is in them, how to bring them here, and how to make them.

    m3pc data list
    m3pc data info bundled/hopper --json info.json
    m3pc data info hopper_medium-v2.hdf5 --figure returns.png
    m3pc data convert d4rl/hopper-medium-v2 data/hopper-medium
    m3pc data convert data/hopper-medium copy.hdf5
    m3pc data convert d4rl/hopper-medium-v2 d4rl/hopper-medium-replay-v2 data/hopper-both
    m3pc data convert bundled/hopper data/few-actions --drop-actions 0.95 --seed 0
    m3pc data convert data/few-actions data/labelled --complete-only
    m3pc data convert can.hdf5 data/can-better --mask better
    m3pc data convert data/can can.hdf5 --layout robomimic
    m3pc data convert runs/finetuned data/finetuned-replay
    m3pc data info runs/finetuned/replay
    m3pc data download d4rl/hopper-medium-v2 --folder data
    m3pc data collect --environment Hopper-v4 --level 0.4 --out data/hopper-sac

A REF is `bundled/hopper`, a D4RL name, a Minari id, or the path of a trajectory store, a D4RL or robomimic HDF5 file
or a Minari folder. D4RL files lie in --folder, else in $D4RL_DATASET_DIR, else in ~/.d4rl/datasets. For `info` and
`convert` it may be a finetuned run (or its `replay` folder) too: the episodes its workers have played, with their ends
as they were; converted, they are a data set like any other.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3pc_ray.commands import _collect
from m3pc_ray.errors import UserError

if TYPE_CHECKING:
    from m3pc_ray.trajectories.download import Progress
    from m3pc_ray.trajectories.episodes import Trajectories

SUMMARY = "list, describe, convert, download and make data sets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The five actions and their options."""
    folder_help = "folder of D4RL files (setting data.folder)"
    parser.add_argument("--folder", default="", help=folder_help)
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # so that --folder may follow the action too
    common.add_argument("--folder", default=argparse.SUPPRESS, help=folder_help)
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|info|convert|download|collect")

    command = actions.add_parser("list", parents=[common], help="data sets that can be named")
    command.add_argument("--json", metavar="FILE", help="write the rows there too")
    command.set_defaults(act=list_data)

    command = actions.add_parser("info", parents=[common], help="describe a data set and draw its returns")
    command.add_argument("reference", metavar="REF", help="name, Minari id, path or finetuned run")
    command.add_argument("--json", metavar="FILE", help="write the row there too")
    command.add_argument("--environment", default="", metavar="ID", help="environment, where the data names none")
    command.add_argument("--figure", default="", metavar="FILE", help="return histogram (default: NAME-returns.png)")
    command.set_defaults(act=describe)

    command = actions.add_parser("convert", parents=[common], help="write a data set in another form")
    command.add_argument(
        "source", nargs="+", metavar="SRC", help="name, Minari id, path or finetuned run; several are joined"
    )
    command.add_argument("target", metavar="DST", help="trajectory store (folder), or HDF5 if it ends in .hdf5 or .h5")
    command.add_argument("--environment", default="", metavar="ID", help="environment, where the data names none")
    command.add_argument("--overwrite", action="store_true", help="replace an existing DST")
    command.add_argument(
        "--drop-actions",
        type=float,
        metavar="FRACTION",
        help="leave out the actions of that fraction of the episodes, whole ones by a seeded shuffle",
    )
    command.add_argument("--seed", type=int, help="seed of that shuffle (default: 0)")
    command.add_argument(
        "--complete-only", action="store_true", help="leave out episodes that lack an action or a reward (for RLlib)"
    )
    command.add_argument(
        "--mask", default="", metavar="NAME", help="of a robomimic file, only the episodes of this mask"
    )
    command.add_argument("--layout", choices=("d4rl", "robomimic"), default="d4rl", help="of an HDF5 DST")
    command.set_defaults(act=convert)

    command = actions.add_parser("download", parents=[common], help="fetch a D4RL file")
    command.add_argument("name", metavar="NAME", help="for example d4rl/hopper-medium-v2")
    command.add_argument("--overwrite", action="store_true", help="fetch it again")
    command.set_defaults(act=fetch)

    _collect.add_action(actions)


def run(arguments: argparse.Namespace) -> int:
    """Carries out one action."""
    arguments.act(arguments)
    return 0


def list_data(arguments: argparse.Namespace) -> None:
    """`m3pc data list`"""
    from m3pc_ray.trajectories.resolve import list_known

    rows = list_known(arguments.folder)
    table = _table("kind", "environment", "here", "name")
    for row in rows:
        table.add_row(row["kind"], row["environment"] or "-", "yes" if row["available"] else "no", row["name"])
    _print(table)
    _write(arguments.json, rows)


def describe(arguments: argparse.Namespace) -> None:
    """`m3pc data info REF`"""
    from m3pc_ray.trajectories import robomimic, summary
    from m3pc_ray.trajectories.files import disk_bytes

    data, path = _load(arguments.reference, arguments)
    row = summary.summarise(data, disk_bytes(path) if path else None)
    figure = Path(arguments.figure or f"{row['name'].replace('/', '-')}-returns.png").expanduser()
    if not figure.suffix:
        figure = figure.with_suffix(".png")
    try:
        figure.parent.mkdir(parents=True, exist_ok=True)
        summary.save_return_histogram(data, figure)
    except (OSError, ValueError) as error:
        raise UserError(f"{figure}: the figure cannot be written ({error})") from error
    row["figure"] = str(figure)

    table = _table("", "min", "mean", "max", numbers=True)
    for name, key, digits in (("return", "return", 1), ("normalised score", "score", 1), ("length", "length", 0)):
        table.add_row(name, *(_number(row[f"{key}_{which}"], digits) for which in ("min", "mean", "max")))
    facts = _table("data set", row["name"])
    facts.add_row("environment", f"{row['environment']}, time limit {row['max_episode_steps'] or 'unknown'}")
    facts.add_row("sizes", f"observations {row['observation_dim']}, actions {row['action_dim']}")
    facts.add_row("episodes", f"{row['episodes']:,}")
    facts.add_row("steps", f"{row['steps']:,}")
    ends = (row["fraction_terminated"], row["fraction_time_limit"], row["fraction_cut"])
    facts.add_row("ended", f"terminated {ends[0]:.1%}, time limit {ends[1]:.1%}, cut {ends[2]:.1%}")
    on_disk = f", on disk {_megabytes(row['disk_bytes'])}" if row["disk_bytes"] is not None else ""
    for name in ("actions", "rewards"):
        if row[f"fraction_{name}_known"] < 1.0:
            facts.add_row(name, f"known for {100 * row[f'fraction_{name}_known']:.1f} % of the steps")
    facts.add_row("size", f"in memory {_megabytes(row['memory_bytes'])}{on_disk}")
    if row["reference_source"]:
        facts.add_row("reference scores", row["reference_source"])
    facts.add_row("origin", row["origin"])
    if path is not None and robomimic.is_robomimic(path):
        row["masks"] = robomimic.masks(path)
        facts.add_row("masks", ", ".join(f"{name} {count:,}" for name, count in row["masks"].items()) or "none")
    facts.add_row("returns drawn in", row["figure"])
    _print(facts, table)
    _write(arguments.json, [row])


def convert(arguments: argparse.Namespace) -> None:
    """`m3pc data convert SRC [SRC ...] DST`"""
    from m3pc_ray.trajectories import d4rl, robomimic_writer
    from m3pc_ray.trajectories.episodes import Trajectories
    from m3pc_ray.trajectories.files import disk_bytes, replacing
    from m3pc_ray.trajectories.store import write_store

    target = Path(arguments.target).expanduser()
    if target.exists() and not arguments.overwrite:
        raise UserError(f"{target} already exists; choose another name or give --overwrite")
    if arguments.layout != "d4rl" and target.suffix not in d4rl.SUFFIXES:
        raise UserError(
            f"--layout {arguments.layout}: needs a DST that ends in {' or '.join(d4rl.SUFFIXES)}, not {target}"
        )
    parts = [_load(source, arguments, arguments.mask)[0] for source in arguments.source]
    data = parts[0]
    if len(parts) > 1:
        names = [part.metadata.name for part in parts]
        joined = {"name": target.stem, "origin": f"{' + '.join(names)}, joined; of the first: {data.metadata.origin}"}
        data = Trajectories.concatenate(parts, data.metadata.replace(**joined))
    if arguments.seed is not None and arguments.drop_actions is None:
        raise UserError("--seed: needs --drop-actions, whose shuffle it is about")
    if arguments.complete_only:
        data = _complete(data, target.stem)
    if arguments.drop_actions is not None:
        data = _without_actions(data, arguments.drop_actions, arguments.seed or 0)
    if target.suffix in d4rl.SUFFIXES:
        if target.is_dir():
            raise UserError(f"{target} is a folder; it will not be overwritten by a file")
        with replacing(target, arguments.overwrite) as fresh:
            (robomimic_writer.write_robomimic if arguments.layout == "robomimic" else d4rl.write_hdf5)(data, fresh)
    else:
        write_store(data, target, arguments.overwrite)
    size = _megabytes(disk_bytes(target))
    print(f"{target}: {data.num_episodes:,} episodes, {data.num_steps:,} steps, {size}")


def _complete(data: Trajectories, name: str) -> Trajectories:
    """The episodes that lack nothing; where that is not all of them, as a data set called `name` whose origin says so.

    What a run held out is found again by the data set's name and the order of its episodes.
    """
    complete = data.complete_episodes()
    if complete is data:
        return data
    said = f"the {complete.num_episodes:,} of {data.num_episodes:,} episodes of {data.metadata.name} that are complete"
    metadata = data.metadata.replace(name=name, origin=f"{said}; of all: {data.metadata.origin}")
    return dataclasses.replace(complete, metadata=metadata)


def _without_actions(data: Trajectories, fraction: float, seed: int) -> Trajectories:
    """The data without the actions of a fraction of its episodes; its origin says so.

    With one seed, what keeps its actions at a larger fraction keeps them at a smaller one.
    """
    import numpy as np

    if not 0.0 < fraction <= 1.0:
        raise UserError(f"--drop-actions is {fraction:g}; it must be above 0 and at most 1")
    if seed < 0:
        raise UserError(f"--seed is {seed}; it must be 0 or more")
    everywhere = np.arange(data.num_episodes)
    dropped = everywhere if fraction == 1.0 else np.setdiff1d(everywhere, data.fraction_indices(1.0 - fraction, seed))
    said = f"actions of {len(dropped):,} of {data.num_episodes:,} episodes left out, seed {seed}"
    metadata = data.metadata.replace(origin=f"{data.metadata.origin}; {said}")
    return dataclasses.replace(data.without_actions(dropped), metadata=metadata)


def fetch(arguments: argparse.Namespace) -> None:
    """`m3pc data download NAME`"""
    from m3pc_ray.trajectories.download import canonical_name, download, find_local
    from m3pc_ray.trajectories.files import disk_bytes

    name = canonical_name(arguments.name)
    present = find_local(name, arguments.folder) if name else None
    with _download_progress() as progress:
        path = download(arguments.name, arguments.folder, arguments.overwrite, progress)
    kept = " (already there)" if present is not None and not arguments.overwrite else ""
    print(f"{path}: {_megabytes(disk_bytes(path))}{kept}")


def _load(reference: str, arguments: argparse.Namespace, mask: str = "") -> tuple[Trajectories, Path | None]:
    """The data set behind a reference, or the episodes of one of its masks, and where it lies on this machine."""
    from m3pc_ray.online.replay.log_dataset import read_dataset, replay_folder
    from m3pc_ray.trajectories import resolve

    folder = replay_folder(reference)
    if folder is not None:
        if mask:
            raise UserError(f"{reference}: is no robomimic file, so it has no mask {mask}")
        return read_dataset(folder, arguments.environment), folder
    with _download_progress() as progress:
        location = resolve.locate(reference, arguments.folder, progress)
    return resolve.read(location, arguments.environment, mask), location.path


@contextlib.contextmanager
def _download_progress() -> Iterator[Progress]:
    """A progress bar on stderr that appears with the first bytes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bar = Progress("downloading", *columns, console=Console(stderr=True))
    task = bar.add_task("downloading", total=None)

    def report(received: int, expected: int) -> None:
        if not bar.live.is_started:
            bar.start()
        bar.update(task, completed=received, total=expected or None)

    try:
        yield report
    finally:
        if bar.live.is_started:  # stopping one that never showed would print an empty line
            bar.stop()


def _table(*headings: str, numbers: bool = False) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", justify="right" if numbers and place else "left")
    return table


def _print(*tables: Any) -> None:
    from rich.console import Console

    console = Console()
    for table in tables:
        console.print(table)


def _write(path: str | None, rows: list[dict[str, Any]]) -> None:
    from m3pc_ray.commands._output import write_rows

    if path:
        write_rows(path, rows)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
