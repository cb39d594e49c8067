"""What an online run shows and writes while it goes on: live table, metrics, summary."""

from __future__ import annotations

import math
import os
import socket
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.online.collector import FinishedEpisode
from m3pc_ray.online.watching.live import LiveStatus, RoleStatus, write_live
from m3pc_ray.training.metrics import MetricLogger
from m3pc_ray.training.run_folder import RunFolder, RunStatus
from m3pc_ray.trajectories.episodes import EpisodeEnd

LOG_SECONDS = 5.0
"""Between two rows of the stream `online`."""
LINE_SECONDS = 20.0
"""Between two lines where the output is a file."""
RECENT_EPISODES = 20
"""Episodes that the shown exploration return is averaged over."""


class OnlineProgress:
    """Collects what the roles report; a context manager around the run.

    Streams in metrics.jsonl: `online` (counters, speed, losses, waiting), `episodes` (one row an exploration episode),
    `evaluation` (one row an evaluation, keys prefixed by the planner).
    """

    def __init__(self, run: RunFolder, config: RunConfig, quiet: bool = False) -> None:
        self.run, self.config = run, config
        self.values: dict[str, float] = {}
        self.steps = 0
        self.updates = {"btm": 0, "critic": 0}
        self.notice = "starting"
        summary = run.summary()
        self._seconds_before = float(summary.get("seconds", 0.0))
        self._scores: dict[str, float] = dict(summary.get("scores", {}))
        self._returns: dict[str, float] = dict(summary.get("returns", {}))
        self._evaluations: list[dict[str, Any]] = []
        self._recent: deque[float] = deque(maxlen=RECENT_EPISODES)
        self._started = time.monotonic()
        self._logged_at, self._logged_steps = self._started, 0
        self._line_at = 0.0
        self._loggers = {name: MetricLogger(run, config.logging, name) for name in ("online", "episodes", "evaluation")}
        self.console = Console(quiet=quiet)
        self._live = Live(get_renderable=self.table, console=self.console, refresh_per_second=2, transient=False)

    def __enter__(self) -> OnlineProgress:
        self._started = self._logged_at = time.monotonic()
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()
        for logger in self._loggers.values():
            logger.close()

    @property
    def seconds(self) -> float:
        """Wall time spent in this run, earlier sittings included."""
        return self._seconds_before + time.monotonic() - self._started

    def resume_from(self, steps: int) -> None:
        """Begin at a checkpoint: rows beyond it, which will be written again, are dropped."""
        self.steps = self._logged_steps = steps
        for logger in self._loggers.values():
            logger.truncate_after(steps)

    def episodes(self, finished: Sequence[FinishedEpisode]) -> None:
        """Exploration episodes that ended."""
        for episode in finished:
            row = {"return": episode.total_reward, "length": episode.length, "worker": episode.key.worker}
            self._loggers["episodes"].log(self.steps, {**row, "end": episode.end.name.lower()})
            if episode.end != EpisodeEnd.CUT:
                self._recent.append(episode.total_reward)

    def evaluation(self, rows: Sequence[dict[str, Any]]) -> None:
        """The rows of one evaluation."""
        values: dict[str, Any] = {}
        for row in rows:
            planner, steps = row["planner"], row["environment_steps"]
            values |= {f"{planner}/{name}": value for name, value in row.items() if isinstance(value, int | float)}
            for kind, book in (("score", self._scores), ("return", self._returns)):
                mean = row.get(f"{kind}_mean")
                if mean is None:
                    continue
                book[planner] = mean
                if steps == 0:
                    book[f"{planner}_start"] = mean
                book[f"{planner}_best"] = max(mean, book.get(f"{planner}_best", -math.inf))
        self._evaluations = list(rows)
        self._loggers["evaluation"].log(rows[0]["environment_steps"], values)
        if not self.console.is_terminal:
            self.console.print(f"evaluation: {self._scores_text()}", highlight=False, soft_wrap=True)

    def update(self, steps: int, updates: dict[str, int], values: dict[str, float], force: bool = False) -> None:
        """The newest counters and measurements; a row is written every few seconds."""
        self.steps, self.updates = steps, dict(updates)
        self.values |= values
        now = time.monotonic()
        elapsed = now - self._logged_at
        if elapsed < LOG_SECONDS and not force:
            return
        if elapsed > 0.5 * LOG_SECONDS or "steps_per_second" not in self.values:
            self.values["steps_per_second"] = (steps - self._logged_steps) / max(elapsed, 1e-9)
            self._logged_at, self._logged_steps = now, steps
        row = dict(self.values)
        row |= {"btm_updates": updates["btm"], "critic_updates": updates["critic"], "seconds": self.seconds}
        if self._recent:
            row["return_mean"] = sum(self._recent) / len(self._recent)
        self._loggers["online"].log(steps, row)
        self.summary("running")
        if not self.console.is_terminal and (force or now - self._line_at >= LINE_SECONDS):
            self._line_at = now
            self.console.print(self._line(), highlight=False, soft_wrap=True)

    def live(self, state: str, roles: Sequence[RoleStatus] = (), ray_address: str = "") -> LiveStatus:
        """Write RUN/live.json as things stand now, and return it.

        Args:
            state: one of `live.RUN_STATES`.
            roles: none with --serial, where they are this process.
            ray_address: of the cluster; empty with --serial.
        """
        online = self.config.online
        status = LiveStatus(
            time=time.time(),
            pid=os.getpid(),
            host=socket.gethostname(),
            ray_address=ray_address,
            state=state,
            notice=self.notice,
            steps=self.steps,
            total_steps=online.steps,
            updates=dict(self.updates),
            promised_updates=online.promised_updates(),
            seconds=self.seconds,
            roles=list(roles),
            metrics=dict(self.values),
        )
        write_live(self.run, status)
        return status

    def last_live(self, state: str, roles: Sequence[RoleStatus] = (), ray_address: str = "") -> LiveStatus | None:
        """`live` with one of `live.ENDED_STATES`; None where the disk does not take it.

        An error may be on its way to the user: that is what they must read, not that the same full disk takes no
        status.
        """
        try:
            return self.live(state, roles, ray_address)
        except UserError as error:
            self.console.print(str(error), highlight=False, soft_wrap=True)
            return None

    def summary(self, status: RunStatus) -> None:
        """Bring summary.json up to date."""
        self.run.write_summary(
            {
                "status": status,
                "environment_steps": self.steps,
                "btm_updates": self.updates["btm"],
                "critic_updates": self.updates["critic"],
                "scores": self._scores,
                "returns": self._returns,
                "seconds": self.seconds,
            }
        )

    def table(self) -> Table:
        """The live view."""
        table = Table(title=f"finetuning {self.run.path}", title_justify="left", show_header=False)
        table.add_column(justify="left")
        table.add_column(justify="right")
        for name, text in self._cells():
            table.add_row(name, text)
        return table

    def _cells(self) -> list[tuple[str, str]]:
        online, values = self.config.online, self.values

        def value(name: str, pattern: str) -> str:
            return pattern.format(values[name]) if name in values else "-"

        recent = sum(self._recent) / len(self._recent) if self._recent else math.nan
        return [
            ("environment steps", f"{self.steps:,} of {online.steps:,}"),
            ("steps/s", value("steps_per_second", "{:.1f}")),
            ("return, last exploration episodes", f"{recent:.1f}" if self._recent else "-"),
            ("model updates", f"{self.updates['btm']:,} of {online.promised_updates()['btm']:,}"),
            (
                "critic updates",
                f"{self.updates['critic']:,} of {online.promised_updates()['critic']:,}",
            ),
            ("planner batch", value("planner_batch_mean", "{:.2f}")),
            ("weight lag, updates", value("weight_lag_mean", "{:.0f}")),
            ("waiting: rollouts", value("waiting_steps", "{:.0%}")),
            ("waiting: learner", value("waiting_updates", "{:.0%}")),
            ("evaluation", self._scores_text()),
            ("state", self.notice),
        ]

    def _line(self) -> str:
        return "  ".join(f"{name} {text}" for name, text in self._cells() if text != "-")

    def _scores_text(self) -> str:
        if not self._evaluations:
            return "-"
        kind = "score" if self._evaluations[0].get("score_mean") is not None else "return"
        parts = (f"{row['planner']} {row[f'{kind}_mean']:.1f}" for row in self._evaluations)
        return f"{kind} " + ", ".join(parts) + f" (at {self._evaluations[0]['environment_steps']:,})"
