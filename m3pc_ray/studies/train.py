"""The run of a cell: accepted where it is finished, continued where it stopped, else trained from the start."""

from __future__ import annotations

import functools

from rich.console import Console

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.studies.agreement import check_agrees
from m3pc_ray.studies.definition import Cell
from m3pc_ray.studies.records import StudyFolder
from m3pc_ray.training.assemble import build_models
from m3pc_ray.training.checkpoints import list_checkpoints
from m3pc_ray.training.data_parts import data_parts
from m3pc_ray.training.pretraining import Pretraining, take_component
from m3pc_ray.training.progress import PretrainingProgress
from m3pc_ray.training.run_folder import RunFolder, lock_file
from m3pc_ray.trajectories.episodes import Trajectories
from m3pc_ray.trajectories.resolve import absolute, load


@functools.lru_cache(maxsize=1)
def _load(dataset: str, environment: str, folder: str) -> Trajectories:
    return load(dataset, environment, folder)


def data_of(config: RunConfig) -> Trajectories:
    """The data set that a configuration names; the last one stays in memory, since cells of a data set share it."""
    if not config.data.dataset:
        raise UserError("no data set: a study's datasets name one each (dataset), or a file of settings that does")
    return _load(config.data.dataset, config.data.environment, config.data.folder)


def source_of(folder: StudyFolder, cell: Cell) -> Cell | None:
    """The cell from whose run this one takes the component that it does not train."""
    return cell.neighbour(cell.variant.start_from) if cell.variant.start_from else None


def check_run(folder: StudyFolder, cell: Cell) -> bool:
    """Whether the cell's run is finished. Raises UserError where a run is there that was trained otherwise."""
    run, source = folder.run(cell), source_of(folder, cell)
    if not run.summary_path.is_file():
        return False
    known = source if source is not None and folder.run(source).summary_path.is_file() else None
    if source is None or known is not None:
        check_agrees(run, cell.config(), None if known is None else folder.run(known))
    return folder.is_finished(cell)


def train_cell(folder: StudyFolder, cell: Cell, console: Console) -> None:
    """Brings the cell's run to its end, and before it the run that it starts from.

    Raises:
        Locked: another process is training one of them.
        UserError: a run of that name was trained with other settings.
        KeyboardInterrupt: on Ctrl-C, after a checkpoint.
    """
    source = source_of(folder, cell)
    if source is not None and not check_run(folder, source):
        train_cell(folder, source, console)
    if check_run(folder, cell):
        return
    with lock_file(folder.locks / f"run-{cell.name}.lock", f"{cell.name}: another process is training it"):
        if check_run(folder, cell):  # another process has finished it just now
            return
        console.rule(f"training {cell.name}", align="left")
        run = folder.run(cell)
        config = cell.config()
        trajectories = data_of(config)
        if run.summary_path.is_file() and list_checkpoints(run):
            console.print(f"{run.path}: continued from its last checkpoint", highlight=False)
            with run.exclusive():
                _train(Pretraining.resume(run, trajectories))
            return
        if run.summary_path.is_file():  # it stopped before its first checkpoint
            with run.exclusive():
                pass  # nobody is at it
        config = with_settings(config, {"data.dataset": absolute(config.data.dataset)})
        models = build_models(config, data_parts(trajectories, config).described)
        taken = None if source is None else take_component(folder.run(source), config, models)
        run = RunFolder.create(run.path, config, "pretrain", overwrite=True)
        with run.exclusive():
            _train(Pretraining(run, config, trajectories, models, taken))


def _train(pretraining: Pretraining) -> None:
    with PretrainingProgress(pretraining.pace) as progress:
        pretraining.train(progress.update)
