"""What the study of representations prints: progress, and a row a variant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from m3pc_ray.representations.features import VARIANTS

Show = Callable[[str, int, Mapping[str, Any] | None], None]
"""Called with a cell's name, its updates so far and, after an evaluation, its row."""


@contextmanager
def study_bars(console: Console, cells: int, updates: int) -> Iterator[Show]:
    """One bar over all cells to be trained; in a log file a line an evaluation instead."""
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}")
    more = TimeElapsedColumn(), TimeRemainingColumn()
    with Bars(*columns, *more, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("representations", total=cells * updates, text="")
        names: list[str] = []
        last = ""

        def show(name: str, done: int, row: Mapping[str, Any] | None) -> None:
            nonlocal last
            if name not in names:
                names.append(name)
                last = ""
            if row is not None:
                last = f", {_measure(row)}"
            text = f"{name}: {done:,} of {updates:,} updates{last}"
            bars.update(task, completed=(len(names) - 1) * updates + done, text=text)
            if row is not None and not console.is_terminal:
                console.print(text, highlight=False, soft_wrap=True)

        yield show


def _measure(row: Mapping[str, Any]) -> str:
    name = "score" if row["score_mean"] is not None else "return"
    return f"{name} {row[f'{name}_mean']:.1f}"


def study_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A row a variant: the last evaluation, and the mean of all evaluations, which is the area under the curve."""
    first = rows[0]
    name = "score" if first["score_mean"] is not None else "return"
    table = Table(
        title=f"{first['environment']}, {first['episodes']} episodes an evaluation, {rows[-1]['updates']:,} updates",
        caption="± standard error over seeds / over all episodes; area: mean over all evaluations",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("variant", no_wrap=True)
    for title in ("seeds", f"final {name}", f"area ({name})", "ms an update"):
        table.add_column(title, justify="right", no_wrap=True)
    for variant in VARIANTS:
        seeds = _by_seed(rows, variant)
        if not seeds:
            continue
        last = [own[-1] for own in seeds]
        final = [row[f"{name}_mean"] for row in last]
        area = [float(np.mean([row[f"{name}_mean"] for row in own])) for own in seeds]
        episodes = np.concatenate([row[f"{name}s"] for row in last])
        speed = np.mean([1e3 * row["seconds"] / row["updates"] for row in last])
        table.add_row(
            variant,
            str(len(seeds)),
            f"{np.mean(final):.1f} ± {_error(final)} / {_error(episodes)}",
            f"{np.mean(area):.1f} ± {_error(area)}",
            f"{speed:.1f}",
        )
    return table


def _by_seed(rows: Sequence[Mapping[str, Any]], variant: str) -> list[list[Mapping[str, Any]]]:
    own = [row for row in rows if row["variant"] == variant]
    return [[row for row in own if row["seed"] == seed] for seed in sorted({row["seed"] for row in own})]


def _error(values: npt.ArrayLike) -> str:
    """Standard error of the mean; a dash where one value says nothing of it."""
    sample = np.asarray(values, dtype=np.float64)
    return f"{sample.std(ddof=1) / np.sqrt(len(sample)):.1f}" if len(sample) > 1 else "-"
