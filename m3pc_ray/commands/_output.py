"""What commands have in common when they write results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from m3pc_ray.errors import UserError
from m3pc_ray.training.run_folder import write_atomically


def check_json(path: str | None) -> None:
    """Raises UserError where --json names a folder: known before the work, not after it."""
    if path and Path(path).expanduser().is_dir():
        raise UserError(f"--json {path}: is a folder; name a file")


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """Writes `{"rows": [...]}`, the shape of every command's --json, and what more there is beside the rows.

    Raises UserError where it cannot be written.
    """
    target = Path(path).expanduser()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, json.dumps({"rows": [dict(row) for row in rows], **more}, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot write the results: {error.strerror}") from error
