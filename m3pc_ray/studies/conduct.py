"""Makes what is missing of studies, one cell after another; whatever is finished is kept and not made again.

Several processes may work on one OUT: a cell that another one is at is left to it.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console

from m3pc_ray.errors import UserError
from m3pc_ray.studies.definition import Cell, Study
from m3pc_ray.studies.measure import measure_cell, missing_measures
from m3pc_ray.studies.records import StudyFolder
from m3pc_ray.studies.train import check_run, train_cell
from m3pc_ray.training.run_folder import lock_file
from m3pc_ray.training.shared_work import work_through
from m3pc_ray.trajectories.resolve import locate


@dataclass
class Pace:
    """What cells have cost so far, for the time left."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"train": [], "measure": []})

    def note(self, kind: str, seconds: float) -> None:
        self.seconds[kind].append(seconds)

    def left(self, counts: dict[str, int]) -> float | None:
        """Seconds for so many trainings and measurements; None where nothing of a kind that is left was done yet."""
        total = 0.0
        for kind, count in counts.items():
            if count and not self.seconds[kind]:
                return None
            total += count * sum(self.seconds[kind]) / max(1, len(self.seconds[kind]))
        return total


def chosen_cells(studies: Sequence[Study], patterns: Sequence[str]) -> list[Cell]:
    """The studies' cells whose names match one of the patterns (`hopper-*`), all without patterns.

    Raises UserError for a pattern that fits none.
    """
    cells = [cell for study in studies for cell in study.cells()]
    for pattern in patterns:
        if not any(fnmatch.fnmatch(cell.name, pattern) for cell in cells):
            raise UserError(
                f"--only {pattern}: no cell has such a name; there is {cells[0].name} and {len(cells) - 1} more"
            )
    return [cell for cell in cells if not patterns or any(fnmatch.fnmatch(cell.name, each) for each in patterns)]


def check_cells(folder: StudyFolder, cells: Sequence[Cell]) -> None:
    """Raises UserError where studies want one cell in two ways, or a run is there that was trained otherwise.

    Looked at before anything is trained: an error after hours would be late.
    """
    wanted: dict[str, tuple[Cell, dict[str, object]]] = {}
    for cell in cells:
        for trained in (cell, *cell.trained().values()):
            if not trained.variant.trains:
                continue
            key = folder.training_of(trained)
            first, known = wanted.setdefault(trained.name, (trained, key))
            if known != key:
                names = sorted(name for name in {*known, *key} if known.get(name) != key.get(name))
                raise UserError(
                    f"{trained.name}: {names[0]}: {first.study.name} and {trained.study.name} train a run of this name "
                    f"with other values ({known.get(names[0], 'the default')} and {key.get(names[0], 'the default')}); "
                    "give one of the variants another name"
                )
            check_run(folder, trained)


def conduct(
    folder: StudyFolder, cells: Sequence[Cell], console: Console, device: str | None = None, threads: int = 1
) -> list[str]:
    """Trains and measures what is missing of the cells; the names of those that other processes are at.

    Raises UserError for what is wrong with a cell, KeyboardInterrupt on Ctrl-C, after a checkpoint.
    """
    folder.make()
    check_cells(folder, cells)
    waiting = [cell for cell in cells if missing_measures(folder, cell)]
    console.print(f"{len(cells)} cells, {len(cells) - len(waiting)} of them finished", highlight=False)
    # A data set that is missing, or has yet to come from the net, is known before hours of training with another.
    for dataset, where in dict.fromkeys((cell.config().data.dataset, cell.config().data.folder) for cell in waiting):
        locate(dataset, where)
    pace = Pace()

    def attempt(cell: Cell, number: int, cells: Sequence[Cell]) -> None:
        left = pace.left(_counts(folder, cells[number - 1 :]))
        about = "" if left is None else f", about {max(1, round(left / 60))} min left"
        console.print(f"cell {number} of {len(cells)}: {cell.name}{about}", highlight=False)
        _make(folder, cell, console, device, threads, pace)

    busy = work_through(waiting, attempt, lambda cell: bool(missing_measures(folder, cell)), console)
    return [cell.name for cell in busy]


def _make(folder: StudyFolder, cell: Cell, console: Console, device: str | None, threads: int, pace: Pace) -> None:
    with lock_file(folder.locks / f"cell-{cell.name}.lock", f"{cell.name}: another process is at it"):
        for trained in cell.trained().values():
            if not check_run(folder, trained):
                started = time.monotonic()
                train_cell(folder, trained, console)
                pace.note("train", time.monotonic() - started)
        started = time.monotonic()
        measure_cell(folder, cell, console, device, threads)
        pace.note("measure", time.monotonic() - started)


def _counts(folder: StudyFolder, cells: Sequence[Cell]) -> dict[str, int]:
    """How many trainings and measurements are left."""
    runs = {each.name: each for cell in cells for each in cell.trained().values()}
    untrained = sum(not folder.is_finished(each) for each in runs.values())
    return {"train": untrained, "measure": len(cells)}
