"""A study's folder: its settings and a file of rows a cell, from which the same command goes on.

DIR/settings.json               what all cells have in common
DIR/cells/<variant>-seed<n>.jsonl   a row an evaluation; finished with the row of the last update
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from m3pc_ray.errors import UserError
from m3pc_ray.representations.features import Variant
from m3pc_ray.training.run_folder import write_atomically

Cell = tuple[Variant, int]
"""Variant and seed."""


class StudyFolder:
    """Opens a study's folder, or makes it.

    Args:
        path: the folder.
        settings: JSON-able facts that all cells share; its `updates` says when a cell is finished.

    Raises:
        UserError: the folder holds a study with other settings, or something else, or cannot be written.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]) -> None:
        self.path, self.updates = Path(path).expanduser(), int(settings["updates"])
        kept = self.path / "settings.json"
        try:
            self._cells.mkdir(parents=True, exist_ok=True)
            if kept.exists():
                _compare(kept, settings)
            elif any(self._cells.iterdir()):
                raise UserError(f"{kept}: missing, but there are cells beside it; give another --out")
            else:
                write_atomically(kept, json.dumps(dict(settings), indent=2) + "\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot hold the results: {error.strerror}") from error

    @property
    def _cells(self) -> Path:
        return self.path / "cells"

    def file(self, cell: Cell) -> Path:
        """Where a cell's rows lie."""
        return self._cells / f"{cell[0]}-seed{cell[1]}.jsonl"

    def rows(self, cell: Cell) -> list[dict[str, Any]]:
        """A finished cell's rows; none where it is not finished. Raises UserError for a damaged file."""
        rows = self._read(cell)
        return rows if rows and rows[-1].get("updates") == self.updates else []

    def _read(self, cell: Cell) -> list[dict[str, Any]]:
        """The rows there are. A last line that was cut off is passed over; other damage raises UserError."""
        path = self.file(cell)
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").split("\n")
        rows = []
        for number, line in enumerate(lines[:-1], 1):  # what follows the last line feed was cut off, or is nothing
            try:
                rows.append(dict(json.loads(line)))
            except ValueError as error:
                raise UserError(f"{path}: line {number} is no row; delete the file to train this cell anew") from error
        return rows

    def record(self, cell: Cell, rows: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Writes a cell's rows as they come, in place of those of an unfinished one, and passes them on."""
        try:
            with self.file(cell).open("w", encoding="utf-8") as file:
                for row in rows:
                    file.write(json.dumps(dict(row)) + "\n")
                    file.flush()
                    yield row
        except OSError as error:
            raise UserError(f"{self.file(cell)}: cannot be written: {error.strerror}") from error

    def finished_rows(self, cells: Sequence[Cell]) -> list[dict[str, Any]]:
        """Of all finished cells, in the order of `cells`."""
        return [row for cell in cells for row in self.rows(cell)]


def _compare(kept: Path, settings: Mapping[str, Any]) -> None:
    try:
        before = dict(json.loads(kept.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UserError(f"{kept}: not the settings of a study; give another --out") from error
    now = json.loads(json.dumps(dict(settings)))
    different = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if different:
        name = different[0]
        raise UserError(
            f"{kept}: this study has other settings ({', '.join(different)}; {name} was {before.get(name)}, now "
            f"{now.get(name)}); give another --out, or the same settings to go on"
        )
