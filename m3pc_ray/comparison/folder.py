"""The OUT of a comparison.

OUT/settings.json             what all cells have in common: evaluation, steps, budgets, data sets
OUT/cells/DATA/ROW-sSEED-POINT.parquet   a finished cell each, one row
OUT/work/DATA/METHOD-sSEED/   a method's own folder, with account.json
OUT/locks/                    what processes are at
OUT/comparison.parquet, .md, .json, .png   the table, of whatever is finished
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.files import replacing

Row = dict[str, Any]

SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("environment", pa.string()),
        ("row", pa.string()),
        ("method", pa.string()),
        ("implementation", pa.string()),
        ("seed", pa.int64()),
        ("point", pa.int64()),
        ("environment_steps", pa.int64()),
        ("updates", pa.int64()),
        ("score_mean", pa.float64()),
        ("score_sem", pa.float64()),
        ("return_mean", pa.float64()),
        ("return_sem", pa.float64()),
        ("scores", pa.list_(pa.float64())),
        ("returns", pa.list_(pa.float64())),
        ("lengths", pa.list_(pa.int64())),
        ("episodes", pa.int64()),
        ("evaluation_seed", pa.int64()),
        ("evaluation_seconds", pa.float64()),
        ("wall_seconds", pa.float64()),
        ("cpu_seconds", pa.float64()),
        ("wall_seconds_total", pa.float64()),
        ("cpu_seconds_total", pa.float64()),
        ("threads", pa.int64()),
        ("cores", pa.int64()),
        ("processor", pa.string()),
        ("budget", pa.string()),
        ("settings", pa.string()),
        ("versions", pa.string()),
    ]
)
"""A cell. Seconds are of the stage that ends at `point`, `_total` of all up to it; budget, settings, versions JSON."""


@dataclass(frozen=True)
class CellKey:
    """Which cell of the table."""

    dataset: str
    row: str
    seed: int
    point: int

    @property
    def file(self) -> str:
        return f"{self.dataset}/{self.row}-s{self.seed}-{self.point:08d}.parquet"


class ComparisonFolder:
    """What is kept of a comparison."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.cells, self.locks, self.work = self.path / "cells", self.path / "locks", self.path / "work"
        self.settings_path = self.path / "settings.json"

    def make(self) -> None:
        """Raises UserError where it cannot be made, or holds something else."""
        if self.path.is_dir() and any(self.path.iterdir()) and not self.settings_path.is_file() and not self._fresh():
            raise UserError(
                f"--out {self.path}: not empty and no comparison, so it is not touched; name another folder"
            )
        for folder in (self.cells, self.locks, self.work):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"{folder}: cannot be made: {error.strerror}") from error

    def _fresh(self) -> bool:
        """Whether all that is there are folders that another process has just made."""
        return {each.name for each in self.path.iterdir()} <= {"cells", "locks", "work", "settings.json"}

    def settings(self) -> dict[str, Any]:
        """What settings.json holds, empty where there is none. Raises UserError for a damaged one."""
        try:
            settings = json.loads(self.settings_path.read_text(encoding="utf-8"))
            if not {"evaluation", "points", "budgets", "datasets"} <= set(settings):
                raise ValueError("an entry is missing")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UserError(f"{self.settings_path}: not the settings of a comparison ({error})") from error
        return dict(settings)

    def has(self, key: CellKey) -> bool:
        """Whether a cell is finished."""
        return (self.cells / key.file).is_file()

    def add(self, key: CellKey, values: Row) -> None:
        """Keeps a finished cell. Raises UserError where it cannot be written."""
        row = {"dataset": key.dataset, "row": key.row, "seed": key.seed, "point": key.point, **values}
        with replacing(self.cells / key.file, overwrite=True) as fresh:
            parquet.write_table(pa.Table.from_pylist([row], schema=SCHEMA), fresh)

    def find(self, key: CellKey) -> Row:
        """A finished cell. Raises UserError for a damaged one."""
        return _read(self.cells / key.file)[0]

    def read(self) -> list[Row]:
        """All finished cells, by data set, row, seed and point. Raises UserError for a damaged one."""
        return [row for path in sorted(self.cells.glob("*/*.parquet")) for row in _read(path)]

    def write_table(self, rows: list[Row]) -> None:
        """All cells in one file."""
        with replacing(self.path / "comparison.parquet", overwrite=True) as fresh:
            parquet.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), fresh)


def _read(path: Path) -> list[Row]:
    try:
        rows: list[Row] = parquet.ParquetFile(path).read().cast(SCHEMA).to_pylist()
        if not rows:
            raise ValueError("it is empty")
    except (OSError, pa.ArrowException, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{path}: not a cell of a comparison ({reason}); remove it to make it anew") from error
    return rows
