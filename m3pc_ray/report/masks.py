"""Pictures of masks: what each shows, hides and asks for, as PNG and as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from rich.text import Text

from m3pc_ray.report.style import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ONE_COLUMN = 5
"""Up to so many patterns stand below each other; more are drawn in two columns."""
HIDDEN, VISIBLE, ASKED = range(3)
CELL_COLOURS = ("#e9e9e9", "#4477aa", "#f6c48b")
"""Of hidden, visible and asked-for tokens; told apart without colour by their lightness, and by the question mark."""
_CELL_SIGNS = ("·", "■", "?")
_CELL_STYLES = ("dim", "blue", "bold yellow")
_GOAL_SIGN = "★"
_GAP = "     "
"""Between panels."""
_INK = "#333333"


@dataclass(frozen=True)
class MaskPanel:
    """One mask.

    visible, asked: (modalities, T) bool; what is asked for and visible counts as visible.
    t: the current step; None where the mask has none.
    goals: steps at which visible states are goals.
    """

    visible: NDArray[np.bool_]
    asked: NDArray[np.bool_]
    t: int | None = None
    goals: tuple[int, ...] = ()

    def cells(self) -> NDArray[np.int64]:
        """(modalities, T): `HIDDEN`, `VISIBLE` or `ASKED`."""
        return np.where(self.visible, VISIBLE, np.where(self.asked, ASKED, HIDDEN)).astype(np.int64)

    def is_goal(self, row: int, step: int) -> bool:
        """Whether a cell holds a goal: a state, in the first row, that is given and lies ahead."""
        return row == 0 and step in self.goals and bool(self.visible[row, step]) and (self.t is None or step > self.t)


@dataclass(frozen=True)
class MaskDrawing:
    """A pattern with a panel for each current step drawn, or for each draw of a random one."""

    name: str
    about: str
    panels: tuple[MaskPanel, ...]


def mask_text(drawing: MaskDrawing, modalities: Sequence[str], width: int = 80) -> Text:
    """The panels of a pattern beside each other, for a terminal; below each other as far as `width` makes them."""
    names = max(map(len, modalities)) + 2
    text = Text(drawing.name, style="bold")
    text.append(f"  {drawing.about}\n" if drawing.about else "\n", style="not bold")
    length = drawing.panels[0].visible.shape[1]
    cell = len(str(length - 1))  # characters of a step
    panel_width = length * (cell + 1) - 1
    beside = max(1, (width - names + len(_GAP)) // (panel_width + len(_GAP)))
    for first in range(0, len(drawing.panels), beside):
        _append_panels(text, drawing.panels[first : first + beside], modalities, names, cell)
    return text


def _append_panels(text: Text, panels: Sequence[MaskPanel], modalities: Sequence[str], names: int, cell: int) -> None:
    """Panels beside each other: a line of steps, one for each modality, one that is empty."""
    labels = [" ".join(f"{label:>{cell}}" for label in _step_labels(panel)) for panel in panels]
    text.append(" " * names + _GAP.join(labels), style="dim not bold")
    for row, modality in enumerate(modalities):
        text.append(f"\n{modality:<{names}}", style="not bold")
        for number, panel in enumerate(panels):
            text.append(_GAP if number else "")
            for step, kind in enumerate(panel.cells()[row]):
                sign = _GOAL_SIGN if panel.is_goal(row, step) else _CELL_SIGNS[kind]
                style = _CELL_STYLES[kind] if kind == ASKED else f"not bold {_CELL_STYLES[kind]}"
                text.append((" " if step else "") + f"{sign:>{cell}}", style=style)
    text.append("\n\n")


def legend_text() -> str:
    """What the signs of `mask_text` mean."""
    hidden, visible, asked = _CELL_SIGNS
    return f"{visible} visible   {_GOAL_SIGN} a goal, visible   {asked} hidden and asked for   {hidden} hidden"


def mask_figure(drawings: Sequence[MaskDrawing], modalities: Sequence[str], path: str | Path) -> Path:
    """Every pattern as a row of grids, modalities by steps.

    Args:
        drawings: at least one, all with the same number of panels.
        modalities: names of the grids' rows.
        path: of the PNG.

    Raises:
        UserError: the figure cannot be written.
    """
    panels_each, length = len(drawings[0].panels), drawings[0].panels[0].visible.shape[1]
    beside = 1 if len(drawings) <= ONE_COLUMN else 2
    rows, columns = math.ceil(len(drawings) / beside), beside * panels_each
    width = 0.9 * beside + columns * max(1.5, 0.22 * length)
    with figure(path, rows, columns, width=width, height=0.6 + 1.38 * rows) as panels:
        for axes in panels:
            axes.set_axis_off()
        for index, drawing in enumerate(drawings):  # down the first column, then down the second
            first = index % rows * columns + index // rows * panels_each
            row = panels[first : first + panels_each]
            for axes, panel in zip(row, drawing.panels, strict=True):
                _draw(axes, panel)
                axes.set_yticks(np.arange(len(modalities)), modalities if axes is row[0] else [""] * len(modalities))
            row[0].set_title(rf"$\bf{{{_math(drawing.name)}}}$", loc="left", pad=16, color=_INK, fontsize=9.5)
            about = row[0].annotate(
                drawing.about,
                (0, 1),
                (0, 4),
                xycoords="axes fraction",
                textcoords="offset points",
                color=_INK,
                fontsize=8,
                parse_math=False,  # a user's text may hold dollar signs
            )
            about.set_in_layout(False)  # it runs on over the panels beside it
        _legend(panels[0])
    return Path(path)


def _draw(axes: Axes, panel: MaskPanel) -> None:
    cells = panel.cells()
    rows, length = cells.shape
    edges = np.arange(length + 1) - 0.5, np.arange(rows + 1) - 0.5
    axes.pcolormesh(*edges, cells, cmap=ListedColormap(CELL_COLOURS), vmin=0, vmax=2, edgecolors="white", linewidth=1.5)
    for row, step in zip(*np.nonzero(cells == ASKED), strict=True):
        axes.text(step, row, "?", ha="center", va="center_baseline", fontsize=8, color="#7a4300")
    for row, step in np.ndindex(rows, length):
        if panel.is_goal(row, step):
            axes.plot(step, row, marker="*", markersize=8, color="white", markeredgewidth=0)
    axes.set_xticks(np.arange(length), _step_labels(panel))
    if panel.t is not None:
        axes.get_xticklabels()[panel.t].set(fontweight="bold", color="black")
        axes.plot([panel.t - 0.5, panel.t - 0.5, panel.t + 0.5, panel.t + 0.5, panel.t - 0.5],
                  [-0.5, rows - 0.5, rows - 0.5, -0.5, -0.5], color="black", linewidth=1.1, clip_on=False)  # fmt: skip
    axes.set_axis_on()
    axes.set_anchor("W")
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_aspect("equal")
    axes.tick_params(length=0, labelsize=8, pad=2, colors="#555555")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _legend(axes: Axes) -> None:
    handles = [
        Patch(facecolor=CELL_COLOURS[VISIBLE], label="visible", edgecolor="white"),
        Line2D(
            [],
            [],
            marker="*",
            markersize=9,
            markerfacecolor="white",
            markeredgecolor=CELL_COLOURS[VISIBLE],
            linestyle="",
            label="a goal, visible",
        ),  # fmt: skip
        Patch(facecolor=CELL_COLOURS[ASKED], label="? hidden and asked for", edgecolor="white"),
        Patch(facecolor=CELL_COLOURS[HIDDEN], label="hidden", edgecolor="white"),
        Patch(facecolor="white", edgecolor="black", label="t, the current step"),
    ]
    axes.get_figure(root=True).legend(handles=handles, loc="outside upper center", ncols=5, columnspacing=1.4)  # type: ignore[union-attr]


def _step_labels(panel: MaskPanel) -> list[str]:
    return ["t" if step == panel.t else str(step) for step in range(panel.visible.shape[1])]


def _math(name: str) -> str:
    return name.replace("_", r"\_").replace(" ", r"\ ")
