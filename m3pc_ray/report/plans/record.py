"""Reading what `m3pc plan` recorded: one `.npz` file, see `m3pc_ray.evaluation.plan_record`."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from m3pc_ray.errors import UserError

FORMAT = 1
"""Version of the file that this reader knows."""
_FACTS = (
    *("environment", "planner", "settings", "discount", "deterministic", "seed", "planner_seed", "segment_length"),
    *("return", "score", "terminated", "truncated", "state_names", "action_names"),
)

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class PlanRecord:
    """An episode of K steps and S of its decisions; N candidates, H steps planned at most, h in the utility."""

    about: dict[str, Any]
    arrays: dict[str, Array]
    """By name, as `m3pc_ray.evaluation.plan_record` lists them, shapes checked."""

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def get(self, name: str) -> Array | None:
        """An array that may be absent."""
        return self.arrays.get(name)


def read_plan_record(path: str | Path) -> PlanRecord:
    """The record in a file.

    Raises:
        UserError: the file is missing, is no such record, is of another version, or its arrays do not fit each other.
    """
    path = Path(path).expanduser()
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); `m3pc plan --run RUN` writes one"
        ) from error
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise UserError(f"{path}: is no record of m3pc plan ({error})") from error
    try:
        about = json.loads(str(arrays.pop("about")))
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: is no record of m3pc plan; it lacks `about`") from error
    found = about.get("format") if isinstance(about, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: has format {found}; this version reads format {FORMAT}")
    missing = [name for name in _FACTS if name not in about]
    if missing:
        raise UserError(f"{path}: says nothing of {missing[0]}")
    _check(path, about, arrays)
    return PlanRecord(about, arrays)


def _check(path: Path, about: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Raises UserError where an array is missing or does not fit the others."""
    try:
        steps, (kept, number, longest, acting) = len(arrays["actions"]), arrays["candidates"].shape
        seen, scored = arrays["observations"].shape[1], arrays["values"].shape[2]
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(f"{path}: lacks the episode or the candidates ({error})") from error
    expected = {
        "observations": (steps + 1, seen),
        "actions": (steps, acting),
        "rewards": (steps,),
        "states_std": (seen,),
        "steps": (kept,),
        "horizons": (kept,),
        "candidates": (kept, number, longest, acting),
        "states": (kept, number, longest - 1, seen),
        "rewards_predicted": (kept, number, scored),
        "values": (kept, number, scored),
        "utilities": (kept, number),
        "probabilities": (kept, number),
        "chosen": (kept,),
        "planned": (kept, longest, acting),
        "planned_states": (kept, longest - 1, seen),
        "planned_utilities": (kept,),
    }
    if "carried_out" in arrays:
        expected["carried_out"] = (kept, longest - 1, seen)
    if "bodies_real" in arrays:
        count = len(arrays.get("body_radii", ()))
        expected |= dict.fromkeys(("bodies_real", "bodies_planned"), (kept, longest, count, 2, 2))
        expected |= dict.fromkeys(("body_radii", "body_limbs"), (count,))
    for name, shape in expected.items():
        if name not in arrays:
            raise UserError(f"{path}: lacks the array {name}")
        if arrays[name].shape != shape:
            raise UserError(f"{path}: {name} has shape {arrays[name].shape}; {shape} is needed")
    if not kept or (arrays["steps"] >= steps).any() or (arrays["steps"] < 0).any():
        raise UserError(f"{path}: holds no decision, or one that the episode has not")
    if (arrays["horizons"] > longest).any() or (arrays["horizons"] < 1).any():
        raise UserError(f"{path}: holds a horizon longer than its plans")
    for name, size in (("state_names", seen), ("action_names", acting)):
        if len(about[name]) != size:
            raise UserError(f"{path}: names {len(about[name])} {name.replace('_names', 's')}; there are {size}")
