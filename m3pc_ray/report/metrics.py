"""Reading metrics.jsonl back into series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from m3pc_ray.training import metrics
from m3pc_ray.training.run_folder import RunFolder

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """The rows of a run, as written."""

    rows: list[dict[str, Any]]

    def series(self, stream: str, name: str) -> tuple[FloatArray, FloatArray]:
        """Steps and values (n,), in order, of one metric; empty where it was never written. Null rows are left out."""
        found = [(row["step"], row[name]) for row in self.rows if row["stream"] == stream and row.get(name) is not None]
        pairs = np.asarray(sorted(found, key=lambda pair: pair[0]), dtype=np.float64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def names(self, stream: str) -> list[str]:
        """Metrics of a stream, in the order of their first appearance."""
        names = (name for row in self.rows if row["stream"] == stream for name in row)
        return [name for name in dict.fromkeys(names) if name not in ("time", "stream", "step")]


def read_metrics(run: RunFolder) -> Metrics:
    """All rows of a run's metrics.jsonl; a half-written last line, as a killed process leaves it, is passed over."""
    return Metrics(metrics.read_metrics(run))


def smooth(values: FloatArray, window: int) -> FloatArray:
    """Centred moving average (n,) over at most `window` values, shorter at the ends."""
    if window <= 1 or len(values) < 3:
        return values
    kernel = np.ones(min(window, len(values)))
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
