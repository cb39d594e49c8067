"""Named columns that are read together, side by side in one tensor: a row is one gather and one or two cache lines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


class Columns:
    """float32 columns of `rows` rows; a column is (rows, width), or (rows,) where its width is given as 0.

    Args:
        widths: column widths by name, in the order in which they lie in memory.
        rows: number of rows; their contents are undefined until they are written.
        device: where the tensor lives.
        values: (rows, sum of the widths) float32 memory to use, with what it holds; None: new memory.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        rows: int,
        device: torch.device | str = "cpu",
        values: Tensor | None = None,
    ) -> None:
        self.widths = dict(widths)
        self._sizes = [max(1, width) for width in widths.values()]
        shape = (rows, sum(self._sizes))
        if values is None:
            values = torch.empty(shape, dtype=torch.float32, device=device)
        elif values.shape != shape or values.dtype != torch.float32:
            raise ValueError(f"columns {self.widths} of {rows} rows need float32 {shape}, not {tuple(values.shape)}")
        self.values = values
        """The tensor itself."""

    @property
    def device(self) -> torch.device:
        return self.values.device

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, name: str) -> Tensor:
        """A whole column, a view: writing into it writes into the store."""
        return self._split(self.values)[name]

    def take(self, at: Tensor) -> dict[str, Tensor]:
        """All columns of the rows `at` (...): (..., width) each, or (...); views of one new tensor."""
        gathered = self.values.index_select(0, at.reshape(-1)).view(*at.shape, -1)
        return self._split(gathered)

    def _split(self, values: Tensor) -> dict[str, Tensor]:
        parts = zip(self.widths.items(), values.split(self._sizes, dim=-1), strict=True)
        return {name: part if width else part.squeeze(-1) for (name, width), part in parts}


def fill_columns(arrays: Mapping[str, np.ndarray], device: torch.device | str = "cpu") -> Columns:
    """Columns that hold `arrays`, (rows,) or (rows, width) each."""
    rows = len(next(iter(arrays.values())))
    widths = {name: array.shape[1] if array.ndim > 1 else 0 for name, array in arrays.items()}
    columns = Columns(widths, rows, device)
    for name, array in arrays.items():
        columns[name].copy_(torch.as_tensor(array))
    return columns
