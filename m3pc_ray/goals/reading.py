"""Waypoints of the user's own, from a table or a Python function, and tables written for editing.

A table has a header. Its columns name dimensions of the observation, by name or by index; what is blank or has no
column is free. `step` is optional:

    step,thigh_joint,torso_height
    5,0.10,
    10,0.20,1.25
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from m3pc_ray.environments.observation_names import observation_names
from m3pc_ray.errors import UserError
from m3pc_ray.goals.user_function import read_function
from m3pc_ray.goals.waypoints import Waypoints
from m3pc_ray.trajectories.files import replacing

STEP_COLUMN = "step"
TABLE_ENDINGS = (".csv", ".parquet")
FORMS = "FILE.csv, FILE.parquet or FILE.py:function"


def read_waypoints(reference: str, environment_id: str, observation_dim: int, every: int = 1) -> Waypoints:
    """The waypoints behind `reference`: `FILE.csv`, `FILE.parquet` or `FILE.py:function` (see `user_function`).

    `every`: where no steps are given, waypoint k, counted from 1, is due at step k * every.
    Raises UserError, one line that names the file and its column and row, or the function, for whatever is wrong there.
    """
    if every < 1:
        raise UserError(f"{reference}: every is {every}; waypoints are at least 1 step apart")
    names = [dimension.name for dimension in observation_names(environment_id, observation_dim)]
    function = re.fullmatch(r"(.+\.py):(.*)", reference, flags=re.IGNORECASE)
    if function:
        return read_function(Path(function[1]).expanduser(), function[2], environment_id, names, every)
    path = Path(reference).expanduser()
    ending = path.suffix.lower()
    if ending == ".py":
        raise UserError(f"{reference}: which function makes the waypoints? Give {reference}:FUNCTION")
    if ending not in TABLE_ENDINGS:
        raise UserError(f"{reference}: unknown ending {ending!r}; waypoints come from {FORMS}")
    if not path.is_file():
        raise UserError(f"{reference}: no such file")
    return _from_table(_read_csv(path) if ending == ".csv" else _read_parquet(path), reference, names, every)


def write_waypoints(waypoints: Waypoints, path: str | Path, environment_id: str, overwrite: bool = False) -> None:
    """Write a table that `read_waypoints` gives back as the same steps and states: `step` and the fixed dimensions.

    Raises UserError for waypoints that drift, an unknown ending, a file that exists (unless `overwrite`), and a folder
    that cannot be written to.
    """
    path = Path(path)
    if waypoints.moving is not None:
        raise UserError(f"{waypoints.source}: these waypoints drift, which a table cannot hold; keep their function")
    if path.suffix.lower() not in TABLE_ENDINGS:
        raise UserError(
            f"{path}: unknown ending {path.suffix!r}; waypoints are written as {' or '.join(TABLE_ENDINGS)}"
        )
    names = observation_names(environment_id, waypoints.observation_dim)
    columns = {STEP_COLUMN: pa.array(waypoints.steps, pa.int64())}
    for index in np.flatnonzero(waypoints.fixed):
        columns[names[index].name] = pa.array(waypoints.states[:, index], pa.float32(), from_pandas=True)  # NaN: null
    with replacing(path, overwrite) as fresh:
        if path.suffix.lower() == ".csv":
            csv.write_csv(pa.table(columns), fresh, csv.WriteOptions(quoting_style="none"))
        else:
            parquet.write_table(pa.table(columns), fresh)


def _read_csv(path: Path) -> pa.Table:
    """All cells as text (null: blank), so that a bad one can be shown as it stands; blank lines at the end dropped."""
    parse = csv.ParseOptions(ignore_empty_lines=False)  # else a blank line would shift the rows after it
    try:
        with csv.open_csv(path, parse_options=parse) as file:
            text = dict.fromkeys(file.schema.names, pa.string())
        convert = csv.ConvertOptions(column_types=text, strings_can_be_null=True, null_values=[""])
        table = csv.read_csv(path, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no readable CSV with a header ({_one_line(error)})") from error
    blank = np.ones(table.num_rows, dtype=bool)
    for column in table.columns:
        blank &= column.is_null().to_numpy()
    filled = np.flatnonzero(~blank)
    return table.slice(0, int(filled[-1]) + 1 if len(filled) else 0)


def _read_parquet(path: Path) -> pa.Table:
    try:
        with parquet.ParquetFile(path) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: no readable Parquet file ({_one_line(error)})") from error


def _from_table(table: pa.Table, source: str, names: Sequence[str], every: int) -> Waypoints:
    headers = [name.strip() for name in table.column_names]
    dimensions = _dimensions(headers, source, names)
    if table.num_rows == 0:
        raise UserError(f"{source}: the table is empty; one row for each waypoint is needed")
    states = np.full((table.num_rows, len(names)), np.nan, dtype=np.float32)
    steps = np.arange(1, table.num_rows + 1, dtype=np.int64) * every
    for header, dimension, column in zip(headers, dimensions, table.columns, strict=True):
        cells = column.to_pylist()
        if dimension is None:
            steps = _steps(cells, source)
        else:
            states[:, dimension] = [_number(cell, source, header, row) for row, cell in enumerate(cells, start=1)]
    empty = np.isnan(states).all(axis=1)
    if empty.any():
        raise UserError(
            f"{source}: {_row(source, int(np.argmax(empty)) + 1)} fixes no dimension; all its cells are blank"
        )
    return Waypoints(steps=steps, states=states, source=source)


def _dimensions(headers: Sequence[str], source: str, names: Sequence[str]) -> list[int | None]:
    """The dimension that each column names; None for `step`."""
    known = f"known columns: {STEP_COLUMN}, {', '.join(names)}, or an index from 0 to {len(names) - 1}"
    index_of = {name: index for index, name in enumerate(names)} | {str(index): index for index in range(len(names))}
    headers_are_numbers = bool(headers) and all(_is_number(header) for header in headers)
    found: dict[int | None, str] = {}
    for header in headers:
        if header != STEP_COLUMN and header not in index_of:
            if headers_are_numbers:
                raise UserError(
                    f"{source}: the first line holds numbers; a header that names the columns is needed; {known}"
                )
            close = difflib.get_close_matches(header.lower(), [STEP_COLUMN, *names], n=3, cutoff=0.6)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise UserError(f"{source}: unknown column {header!r}; {hint}{known}")
        dimension = None if header == STEP_COLUMN else index_of[header]
        if dimension in found:
            raise UserError(f"{source}: columns {found[dimension]!r} and {header!r} name the same; {known}")
        found[dimension] = header
    if not any(dimension is not None for dimension in found):
        raise UserError(f"{source}: no column names a dimension; {known}")
    return list(found)


def _steps(cells: Sequence[object], source: str) -> NDArray[np.int64]:
    """The column `step`: whole numbers that rise, from 1 on."""
    steps: list[int] = []
    for row, cell in enumerate(cells, start=1):
        number = _number(cell, source, STEP_COLUMN, row)
        before = steps[-1] if steps else 0
        if not number.is_integer() or number > 2**53:  # a blank cell is NaN, which is no integer either
            found = "a blank cell" if math.isnan(number) else repr(cell)
            raise UserError(f"{_place(source, STEP_COLUMN, row)}: {found} is no whole number of steps")
        if number <= before:
            wanted = f"a step after {before}, the row before" if steps else "at least 1"
            raise UserError(f"{_place(source, STEP_COLUMN, row)}: {int(number)} is not {wanted}")
        steps.append(int(number))
    return np.array(steps, dtype=np.int64)


def _number(cell: object, source: str, header: str, row: int) -> float:
    """A cell as a number that float32 can hold; NaN for a blank one."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return math.nan
    number = float(cell) if isinstance(cell, int | float | Decimal | str) and _is_number(cell) else None
    if number is None:
        raise UserError(f"{_place(source, header, row)}: {cell!r} is no number; leave the cell blank where it is free")
    with np.errstate(over="ignore"):
        held = np.float32(number)
    if np.isinf(held):
        raise UserError(f"{_place(source, header, row)}: {cell!r} is infinite; a goal must be a finite number")
    return number


def _is_number(cell: int | float | Decimal | str) -> bool:
    if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell):  # Python reads 1_000 as a number
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _place(source: str, header: str, row: int) -> str:
    return f"{source}: column {header!r}, {_row(source, row)}"


def _row(source: str, row: int) -> str:
    """Rows count from 1, below the header; in text files the line is what an editor shows."""
    return f"row {row} (line {row + 1})" if source.lower().endswith(".csv") else f"row {row}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
