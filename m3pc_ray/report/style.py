"""One look for all figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from m3pc_ray.errors import UserError

COLOURS = {
    "none": "#4477aa",
    "return": "#228833",
    "critic": "#cc3311",
    "dataset": "#777777",
    "explore": "#bbbbbb",
    "backward": "#0077bb",
    "goal_mask": "#ee7733",
    "bc": "#009988",
}
"""One colour a planner; those that share a figure are told apart by colour-blind readers (Paul Tol's schemes)."""
LABELS = {
    "none": "BTM, one mask",
    "return": "M³PC-M",
    "critic": "M³PC-Q",
    "dataset": "data set",
    "finetuned": "finetuned",
    "backward": "Backward M³PC",
    "goal_mask": "single goal mask",
    "bc": "behaviour cloning",
}

_PARAMETERS: dict[Any, Any] = {
    "figure.dpi": 150,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.8,
    "legend.fontsize": 8,
}


@contextmanager
def figure(
    path: str | Path | BinaryIO, rows: int = 1, columns: int = 1, *, width: float, height: float
) -> Iterator[list[Axes]]:
    """Axes of a new figure, row by row; saved as PNG at `path`, or into an open file, afterwards.

    Raises UserError where it cannot be.
    """
    with matplotlib.rc_context(_PARAMETERS):
        drawn = Figure(figsize=(width, height), layout="constrained")  # without pyplot: no window, no global state
        yield list(drawn.subplots(rows, columns, squeeze=False).flat)
        if not isinstance(path, str | Path):
            drawn.savefig(path, format="png")
            return
        try:
            target = Path(path).expanduser()
            target.parent.mkdir(parents=True, exist_ok=True)
            drawn.savefig(target, format="png")
        except OSError as error:
            raise UserError(f"{path}: cannot write the figure: {error.strerror}") from error
