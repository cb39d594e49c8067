"""Metrics of a run: one JSON object a line in metrics.jsonl, TensorBoard beside it, Weights & Biases when asked.

A row is {"time": seconds since 1970, "stream": ..., "step": ..., name: value, ...}. A stream is whoever measures (say
"pretrain", "learner"); within a stream steps count up. Values that are not finite are written as null.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from m3pc_ray.config import LoggingConfig
from m3pc_ray.configuration import to_dict
from m3pc_ray.errors import UserError
from m3pc_ray.training.run_folder import RunFolder, write_atomically

_RESERVED = ("time", "stream", "step")


class MetricLogger:
    """Appends the rows of one stream. Several loggers, in several processes, may write into one run.

    Args:
        run: the run (a folder opened or created).
        logging: which of TensorBoard and Weights & Biases to feed.
        stream: name of the rows' origin.

    Raises UserError where Weights & Biases is asked for and not installed.
    """

    def __init__(self, run: RunFolder | str | Path, logging: LoggingConfig, stream: str) -> None:
        self.run = run if isinstance(run, RunFolder) else RunFolder(run)
        self.stream = stream
        self._logging = logging
        self._tensorboard: Any = None
        self._purge_step: int | None = None
        self._wandb = _wandb_run(self.run, logging)
        if self._wandb is not None:
            self._wandb.define_metric(f"{stream}/*", step_metric=f"{stream}/step")
        _mend_last_line(self.run.metrics_path)

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes one row; numbers also go to TensorBoard and Weights & Biases. Raises UserError where it cannot."""
        clash = [name for name in _RESERVED if name in values]
        if clash:
            raise ValueError(f"{clash[0]} is a column of every row, not a metric")
        row = {"time": time.time(), "stream": self.stream, "step": int(step)}
        row |= {name: _plain(value) for name, value in values.items()}
        numbers = {
            name: float(value)
            for name, value in row.items()
            if name not in _RESERVED and isinstance(value, int | float) and not isinstance(value, bool)
        }
        try:
            # Opened for each row: a resumed run replaces the file, and one short append is atomic between processes.
            with self.run.metrics_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise UserError(f"{self.run.metrics_path}: cannot write metrics: {error.strerror}") from error
        if self._logging.tensorboard:
            writer = self._writer()
            for name, number in numbers.items():
                writer.add_scalar(name, number, step)
        if self._wandb is not None:
            self._wandb.log({f"{self.stream}/{name}": number for name, number in {**numbers, "step": step}.items()})

    def truncate_after(self, step: int, stream: str | None = None) -> int:
        """Drops rows of a stream (default: this one) beyond `step`; returns how many.

        Called on resume with the checkpoint's step, so that the steps done again do not stand there twice.
        """
        stream = self.stream if stream is None else stream
        dropped = _keep_rows(self.run.metrics_path, lambda row: row["stream"] != stream or row["step"] <= step)
        if stream == self.stream:
            self._purge_step = step + 1
        return dropped

    def flush(self) -> None:
        """Everything logged is on disk, TensorBoard's rows too."""
        if self._tensorboard is not None:
            self._tensorboard.flush()

    def close(self) -> None:
        """Flushes and closes. Weights & Biases is closed at the end of the process, since streams share its run."""
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard = None

    def _writer(self) -> Any:
        if self._tensorboard is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._tensorboard = SummaryWriter(
                str(self.run.path / "tensorboard" / self.stream), purge_step=self._purge_step
            )
        return self._tensorboard


def read_metrics(run: RunFolder | str | Path, stream: str | None = None) -> list[dict[str, Any]]:
    """Rows of a run in the order they were written, of one stream or of all; a half-written last line is left out."""
    run = run if isinstance(run, RunFolder) else RunFolder(run)
    return [row for row in _rows(run.metrics_path) if stream is None or row["stream"] == stream]


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # what a crash left of a row
        if isinstance(row, dict) and {"stream", "step"} <= set(row):
            rows.append(row)
    return rows


def _keep_rows(path: Path, keep: Callable[[dict[str, Any]], bool]) -> int:
    rows = _rows(path)
    kept = [row for row in rows if keep(row)]
    if len(kept) < len(rows):
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
    return len(rows) - len(kept)


def _mend_last_line(path: Path) -> None:
    """Ends a half-written last line, so that the next row starts on its own."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _plain(value: Any) -> Any:
    """A value JSON can hold: arrays and tensors of one element become numbers, non-finite numbers None."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _wandb_run(run: RunFolder, logging: LoggingConfig) -> Any:
    """The process's Weights & Biases run, one per run folder, continued on resume; None where it is off."""
    if logging.wandb == "off":
        return None
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            f"logging.wandb: {logging.wandb} needs the wandb package: pip install 'm3pc-ray[wandb]', or set it to off"
        ) from error
    identity = run.path / "wandb_id"
    if not identity.is_file():
        write_atomically(identity, secrets.token_hex(4))
    name = identity.read_text(encoding="utf-8").strip()
    if wandb.run is not None and wandb.run.id == name:
        return wandb.run
    return wandb.init(
        project=logging.wandb_project,
        name=run.path.name,
        id=name,
        resume="allow",
        mode=logging.wandb,
        dir=str(run.path),
        config=to_dict(run.config()),
        reinit="finish_previous",
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
    )
