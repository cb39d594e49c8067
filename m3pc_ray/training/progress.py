"""Progress of pretraining on the terminal."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from m3pc_ray.training.pacing import Pace
from m3pc_ray.training.pretraining import PHASES, Pretraining

LINE_SECONDS = 20.0
"""Between two lines where the output is a file and no bar can be drawn."""
BAR_STEPS = 1000
TITLES = {"critic": "critic", "btm": "trajectory model"}


class PretrainingProgress:
    """A bar a phase with losses, entropy, multiplier, sequences/s and the time left; plain lines in a log file."""

    def __init__(self, paces: dict[str, Pace]) -> None:
        self.console = Console()
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}")
        self._bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._tasks: dict[str, TaskID] = {
            phase: self._bar.add_task(TITLES[phase], total=BAR_STEPS, text="waiting")
            for phase in PHASES
            if paces[phase].total_steps
        }
        self._last_line = dict.fromkeys(PHASES, 0.0)

    def __enter__(self) -> PretrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, phase: str, pace: Pace, row: dict[str, float]) -> None:
        if phase == "critic":
            text = (
                f"value loss {row['value_loss']:.3g}  Q loss {row['q_loss']:.3g}  "
                f"{row['updates_per_second']:.0f} updates/s"
            )
        else:
            if "entropy" in row:
                actions = (
                    f"log-likelihood {-row['negative_log_likelihood']:.2f}  entropy {row['entropy']:.2f}  "
                    f"multiplier {row.get('entropy_multiplier', 0.0):.3f}"
                )
            else:
                actions = f"actions {row['asked_actions_error']:.4f}"
            text = (
                f"loss {row['loss']:.3f}  states {row['states_error']:.4f}  {actions}  "
                f"{row['sequences_per_second']:.0f} sequences/s"
            )
        left = f"{pace.remaining_seconds / 60:.1f} min left"
        self._bar.update(
            self._tasks[phase], completed=round(BAR_STEPS * pace.progress), text=f"{pace.step:,} steps  {text}  {left}"
        )
        now = time.monotonic()
        if not self.console.is_terminal and (now - self._last_line[phase] > LINE_SECONDS or pace.finished):
            self._last_line[phase] = now
            self.console.print(f"{TITLES[phase]}: {pace.step:,} steps  {text}  {left}", highlight=False)

    def print_summary(self, path: Path, errors: dict[str, float]) -> None:
        """Validation errors and where the run lies."""
        if errors:
            table = Table(title="errors on held-out episodes (states, rewards, returns: units of the data's variance)")
            table.add_column("asked for / mask")
            table.add_column("mean squared error", justify="right")
            for name, value in errors.items():
                table.add_row(name, f"{value:.4f}")
            self.console.print(table)
        self.console.print(f"run: {path}", highlight=False)


def train_with_progress(pretraining: Pretraining) -> int:
    """Runs pretraining to its end; the exit code of the command."""
    with PretrainingProgress(pretraining.pace) as progress:
        errors = pretraining.train(progress.update)
    progress.print_summary(pretraining.run.path, errors)
    return 0
