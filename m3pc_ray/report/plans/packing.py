"""Numbers for a page in little room: 16 bits each between the smallest and the largest of their kind, as base64."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

STEPS = 65534
"""Between the lowest and the highest value; the code above them stands for a missing value (NaN)."""
MISSING = 65535


@dataclass(frozen=True, eq=False)
class Scales:
    """(D,) ranges, one a kind of number."""

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def of(cls, *arrays: npt.NDArray[Any]) -> Scales:
        """Of everything in arrays (..., D), NaN left out; 0 to 1 where there is nothing."""
        rows = np.concatenate([array.reshape(-1, array.shape[-1]).astype(np.float64) for array in arrays])
        rows = np.where(np.isfinite(rows), rows, np.nan)
        nothing = np.isnan(rows).all(axis=0)
        rows = np.where(nothing, 0.0, rows)
        low, high = np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)
        return cls(low, np.where(high > low, high, low + 1.0))

    def pack(self, values: npt.NDArray[Any]) -> str:
        """Values (..., D), row by row; off by at most half a `STEPS`-th of their range."""
        numbers = np.asarray(values, dtype=np.float64)
        scaled = np.rint((numbers - self.low) / (self.high - self.low) * STEPS)
        codes = np.where(np.isfinite(numbers), np.clip(np.nan_to_num(scaled), 0, STEPS), MISSING).astype("<u2")
        return base64.b64encode(codes.tobytes()).decode("ascii")

    def unpack(self, text: str) -> npt.NDArray[np.float64]:
        """The (rows, D) values in a text, as the page reads them."""
        codes = np.frombuffer(base64.b64decode(text), dtype="<u2").reshape(-1, len(self.low)).astype(np.float64)
        values = self.low + codes / STEPS * (self.high - self.low)
        return np.where(codes == MISSING, np.nan, values)

    def ranges(self) -> list[list[float]]:
        """[[low, high], ...] for the page."""
        return [[float(low), float(high)] for low, high in zip(self.low, self.high, strict=True)]


def packed_bytes(count: int) -> int:
    """Characters of so many packed numbers."""
    return 4 * -(-2 * count // 3)
