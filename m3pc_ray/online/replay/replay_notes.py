"""What the replay keeps beside its log: two small JSON files, replaced atomically.

    RUN/replay/incarnations.json   the newest incarnation given to every worker
    RUN/replay/limiter.json        how long either side of the rate limiter has waited, for the waiting fractions

An incarnation is on the disk before a worker hears of it, so that none is given twice even if it never wrote a
fragment. It is no row of the log, because every row there is experience, to whoever opens it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.rate_limiter import RateLimiter
from m3pc_ray.training.run_folder import write_atomically
from m3pc_ray.trajectories.files import sync_folder

INCARNATIONS_FILE = "incarnations.json"
LIMITER_FILE = "limiter.json"
_MOST_BYTES = 2**20
_LOGGER = logging.getLogger(__name__)


def load_incarnations(folder: Path) -> dict[int, int]:
    """The newest incarnation of every worker that was ever given one; empty where there was none.

    Raises:
        UserError: the file cannot be read or holds something else.
    """
    path = folder / INCARNATIONS_FILE
    if not path.exists():
        return {}
    try:
        incarnations = {int(worker): number for worker, number in _read(path).items()}
        if not all(isinstance(number, int) and 0 <= number < 2**31 for number in incarnations.values()):
            raise ValueError("an incarnation is a count")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: not the newest incarnation of every worker ({error}); once it is removed those in the log count"
        ) from error
    return incarnations


def save_incarnations(folder: Path, incarnations: Mapping[int, int]) -> None:
    """Write them; they survive a power loss when this returns.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    path = folder / INCARNATIONS_FILE
    try:
        write_atomically(path, json.dumps({str(worker): incarnations[worker] for worker in sorted(incarnations)}))
        sync_folder(folder)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def load_times(folder: Path, limiter: RateLimiter) -> None:
    """Let the limiter go on with the waiting times of an earlier process; a damaged file costs a warning."""
    path = folder / LIMITER_FILE
    if not path.exists():
        return
    try:
        limiter.load(_read(path))
    except (OSError, ValueError, TypeError) as error:
        _LOGGER.warning("%s: waiting fractions start anew: %s", path, error)


def save_times(folder: Path, limiter: RateLimiter) -> None:
    """Write counters and waiting times. They are statistics: where that fails there is a warning, and no more."""
    path = folder / LIMITER_FILE
    try:
        write_atomically(path, json.dumps(limiter.save(), indent=2))
    except OSError as error:
        _LOGGER.warning("%s: cannot be written: %s", path, error.strerror or error)


def _read(path: Path) -> Any:
    """JSON of a small file. Raises OSError, or ValueError for anything that is none."""
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"larger than {_MOST_BYTES} bytes")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
