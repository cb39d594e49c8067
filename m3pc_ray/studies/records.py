"""What was measured of a cell, kept in OUT/cells/<cell>.json: every measure with what it depends on.

    {"cell": ..., "dataset": ..., "variant": ..., "seed": ...,
     "entries": [{"measure": "score/none", "key": "3f0c...", "with": {...}, "runs": {role: {...}}, "value": {...}}]}

An entry counts where its key is the one asked for and the runs it was made with are still the same. Others stay: a
study file that is changed back finds them again, and studies that share an OUT do not overwrite each other's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m3pc_ray.errors import UserError
from m3pc_ray.studies.agreement import digest, identity
from m3pc_ray.studies.definition import Cell
from m3pc_ray.training.checkpoints import list_checkpoints
from m3pc_ray.training.run_folder import RunFolder, write_atomically

MASKS = "mask_errors"
DYNAMICS = "dynamics"
CLONING = "mlp_bc"
SCORE = "score/"


class StudyFolder:
    """The OUT of studies: runs, records and locks."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.records, self.locks, self.runs = self.path / "cells", self.path / "locks", self.path / "runs"

    def make(self) -> None:
        """Raises UserError where it cannot be made."""
        for folder in (self.records, self.locks, self.runs):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"{folder}: cannot be made: {error.strerror}") from error

    def run(self, cell: Cell) -> RunFolder:
        """The run of a cell that trains one; it need not be there yet."""
        return RunFolder(self.runs / cell.name)

    def is_finished(self, cell: Cell) -> bool:
        """Whether that run is there and finished."""
        run = self.run(cell)
        return run.summary_path.is_file() and run.summary().get("status") == "finished"

    def record_path(self, cell: Cell) -> Path:
        return self.records / f"{cell.name}.json"

    def read(self, cell: Cell) -> dict[str, Any]:
        """The cell's record, an empty one where there is none. Raises UserError for a damaged one."""
        path = self.record_path(cell)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            entries = record["entries"]
            if not all({"measure", "key", "runs", "value"} <= set(entry) for entry in entries):
                raise ValueError("an entry is incomplete")
        except FileNotFoundError:
            return {"cell": cell.name, "dataset": cell.dataset, "variant": cell.variant.name, "seed": cell.seed} | {
                "entries": []
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: not the record of a cell ({error}); remove it to measure the cell again"
            ) from error
        return dict(record)

    def find(self, cell: Cell, measure: str) -> Any | None:
        """A measured value as the study wants it, by the names above; None where it is still to be measured."""
        entry = self._entry(cell, measure)
        return None if entry is None else entry["value"]

    def facts(self, cell: Cell) -> dict[str, dict[str, Any]] | None:
        """What is recorded of the runs that the cell is made of, by role; None where nothing was measured yet."""
        for measure in (MASKS, DYNAMICS, *(SCORE + guide for guide in cell.study.planners)):
            entry = self._entry(cell, measure)
            if entry is not None:
                return dict(entry["runs"])
        return None

    def _entry(self, cell: Cell, measure: str) -> dict[str, Any] | None:
        key = digest(self.depends_on(cell, measure))
        for entry in reversed(self.read(cell)["entries"]):
            if entry["measure"] == measure and entry["key"] == key and self._is_current(entry["runs"]):
                return dict(entry)
        return None

    def add(self, cell: Cell, measure: str, value: Mapping[str, Any]) -> None:
        """Keeps a measured value. Raises UserError where it cannot be written."""
        record, depends_on = self.read(cell), self.depends_on(cell, measure)
        runs = {} if measure == CLONING else {role: self._run_facts(each) for role, each in cell.trained().items()}
        entry = {"measure": measure, "key": digest(depends_on), "with": depends_on, "runs": runs, "value": dict(value)}
        old = [each for each in record["entries"] if (each["measure"], each["key"]) != (measure, entry["key"])]
        record["entries"] = [*old, entry]
        path = self.record_path(cell)
        try:
            write_atomically(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error

    def depends_on(self, cell: Cell, measure: str) -> dict[str, Any]:
        """Everything that decides a measure, as JSON: what is different is measured anew."""
        study, evaluation = cell.study, cell.study.evaluation
        played = {"episodes": evaluation.episodes, "seed": evaluation.seed, "deterministic": evaluation.deterministic}
        if measure == CLONING:
            assert study.mlp_bc is not None  # asked for only then
            config = cell.trained()["predicts"].config()
            data = {name: value for name, value in identity(config).items() if name.startswith(("data.", "seed"))}
            return {**played, "steps": study.mlp_bc.steps, "batch_size": study.mlp_bc.batch_size, "data": data}
        runs = {role: self.training_of(trained) for role, trained in cell.trained().items()}
        depends_on = {"planner": cell.planner_settings(), "runs": runs}
        return depends_on if measure in (MASKS, DYNAMICS) else {**played, **depends_on}

    def training_of(self, cell: Cell) -> dict[str, Any]:
        """What decides the weights of the cell's run, as JSON."""
        settings = identity(cell.config())
        if cell.variant.start_from:
            settings["start_from"] = {
                "run": cell.variant.start_from,
                **identity(cell.neighbour(cell.variant.start_from).config()),
            }
        return settings

    def _run_facts(self, cell: Cell) -> dict[str, Any]:
        summary = self.run(cell).summary()
        return {
            "run": cell.name,
            "checkpoint": checkpoint_digest(self.run(cell)),
            "seconds": summary.get("seconds"),
            "btm_updates": summary.get("btm_updates"),
            "critic_updates": summary.get("critic_updates"),
            "sequences": int(summary.get("btm_updates", 0)) * cell.config().pretrain.batch_size,
        }

    def _is_current(self, runs: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether no run has been trained again since; one that was removed to save space has not."""
        for facts in runs.values():
            run = RunFolder(self.runs / str(facts["run"]))
            if run.summary_path.is_file() and checkpoint_digest(run) != facts["checkpoint"]:
                return False
        return True


def checkpoint_digest(run: RunFolder) -> str:
    """Tells the newest checkpoint of a run from all others: a digest of its manifest, which holds its checksums."""
    steps = list_checkpoints(run)
    if not steps:
        return ""
    return hashlib.sha256((run.checkpoints_path / f"step-{steps[-1]:08d}" / "manifest.json").read_bytes()).hexdigest()[
        :16
    ]
