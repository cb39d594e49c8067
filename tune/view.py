"""What a sweep shows while it goes on: how far it is, every setting's mean so far, and what runs now."""

from __future__ import annotations

import math
import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from m3pc_ray.errors import UserError
from m3pc_ray.online.watching.live import read_live
from m3pc_ray.training.run_folder import RunFolder
from tune.definition import Sweep
from tune.finetune_trial import run_path
from tune.plan import Trial
from tune.results import ENDED, ResultsFile
from tune.space import Settings

MOST_SETTINGS = 20
"""Rows of the live table; the report has all."""


class SweepView:
    """A live table on a terminal, a line for every trial that ended elsewhere; a context manager.

    Args:
        sweep: the definition.
        results: what was reported so far.
        total: trials of the whole sweep.
    """

    def __init__(self, sweep: Sweep, results: ResultsFile, total: int) -> None:
        self._sweep, self._results, self._total = sweep, results, total
        self._running: dict[str, tuple[Trial, float]] = {}
        self._began, self._ended_here = time.monotonic(), 0
        self._notice = ""
        self.console = Console()
        self._live = Live(get_renderable=self.render, console=self.console, refresh_per_second=1)

    def __enter__(self) -> SweepView:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def started(self, trial: Trial) -> None:
        """A trial runs now."""
        self._running[trial.name] = (trial, time.monotonic())

    def reported(self, trial: Trial) -> None:
        """A trial has a new score."""
        newest = self._results.newest(trial.name)
        if newest is not None and self._sweep.kind == "finetune":
            self._line(f"{self._title(trial)}: {_score(newest)} at {newest['environment_steps']:,} steps")

    def ended(self, trial: Trial) -> None:
        """A trial is over."""
        self._running.pop(trial.name, None)
        self._ended_here += 1
        rows = [row for row in self._results.rows if row["trial"] == trial.name and row["last"]]
        said = rows[-1]["error"] if rows[-1]["status"] == "failed" else _score(rows[-1])
        self._line(f"{self._title(trial)}: {rows[-1]['status']}, {said}  ({self._done()} of {self._total} trials)")

    def stopping(self) -> None:
        """Ctrl-C."""
        self._notice = "stopping; what the running trials have is kept (Ctrl-C again: at once)"
        self._line(self._notice)

    def render(self) -> Group:
        """The live view."""
        done, running = self._done(), len(self._running)
        minutes = (time.monotonic() - self._began) / 60
        left = minutes / self._ended_here * (self._total - done) if self._ended_here else math.nan
        title = f"sweep {self._sweep.name}: {done} of {self._total} trials ended, {running} running, {minutes:.0f} min"
        title += f", about {left:.0f} left" if math.isfinite(left) else ""
        title += f"; {self._notice}" if self._notice else ""
        return Group(Text(title), self._means(), *([self._now()] if self._running else []))

    def _means(self) -> Table:
        known = any(row["score"] is not None for row in self._results.rows)
        table = Table(title="newest, mean over seeds", title_justify="left")
        for name in ("setting", "score" if known else "return", "seeds"):
            table.add_column(name, justify="left" if name == "setting" else "right")
        scores: dict[str, list[float]] = {}
        for row in self._results.rows:
            if row["last"] and row["return"] is not None:
                label = self._label(self._results.settings(row), row["baseline"])
                scores.setdefault(label, []).append(row["return"] if row["score"] is None else row["score"])
        ranked = sorted(scores.items(), key=lambda item: -sum(item[1]) / len(item[1]))
        for label, values in ranked[:MOST_SETTINGS]:
            table.add_row(label, f"{sum(values) / len(values):.1f}", str(len(values)))
        return table

    def _now(self) -> Table:
        table = Table(title="running", title_justify="left")
        for name in ("trial", "minutes", "environment steps", "steps/s"):
            table.add_column(name, justify="left" if name == "trial" else "right")
        for trial, since in list(self._running.values()):
            steps, speed = self._live_steps(trial)
            table.add_row(self._title(trial), f"{(time.monotonic() - since) / 60:.1f}", steps, speed)
        return table

    def _live_steps(self, trial: Trial) -> tuple[str, str]:
        """Steps and speed of an online run, from the status that it writes; its machine may be another."""
        if self._sweep.kind == "evaluate" or self._results.folder.path is None:
            return "-", "-"
        try:
            status = read_live(RunFolder(run_path(self._sweep, self._results.folder.address, trial.name)))
        except UserError:
            return "starting", "-"
        return f"{status.steps:,} of {status.total_steps:,}", f"{status.metrics.get('steps_per_second', 0.0):.0f}"

    def _title(self, trial: Trial) -> str:
        return f"{trial.name}  {self._label(trial.settings, trial.baseline)}  seed {trial.seed}"

    def _label(self, settings: Settings, baseline: bool) -> str:
        return self._sweep.baseline_label if baseline else label_of(settings)

    def _done(self) -> int:
        return len({row["trial"] for row in self._results.rows if row["status"] in (*ENDED, "failed")})

    def _line(self, text: str) -> None:
        if not self.console.is_terminal:
            self.console.print(text, highlight=False, soft_wrap=True)


def label_of(settings: Settings) -> str:
    """`planner.td_lambda 0.3, planner.horizon 4`."""
    parts = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in settings.items()
    )
    return ", ".join(parts) or "as configured"


def _score(row: dict) -> str:
    if row["return"] is None:
        return "no score"
    return f"return {row['return']:.1f}" if row["score"] is None else f"score {row['score']:.1f}"
