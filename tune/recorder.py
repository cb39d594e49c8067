"""Listens to Ray Tune: every report goes into the results before anything else happens, and onto the screen."""

from __future__ import annotations

import posixpath
import re
import signal
import threading
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial

from m3pc_ray.config import OnlineConfig
from tune.folder import SweepFolder
from tune.plan import Trial
from tune.reporting import REPORTED, SETTINGS, STEPS, TrialContext
from tune.results import ResultsFile
from tune.view import SweepView


class Recorder(Callback):
    """Keeps the results and the view up to date.

    Args:
        results: of the sweep.
        context: what the trials are told.
        online: settings of the online runs; their last step tells a trial that ended from one that was ended.
        view: shows what is recorded.
    """

    def __init__(self, results: ResultsFile, context: TrialContext, online: OnlineConfig, view: SweepView) -> None:
        self._results, self._context, self._online, self._view = results, context, online, view
        self.interrupted = False
        """Whether Ctrl-C was pressed."""

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune pickles its callbacks for a restore of its own; sweeps resume from their results instead."""
        return {}

    def setup(self, *_: Any, **__: Any) -> None:
        """Say at once that Ctrl-C was heard: Ray Tune, which then ends its trials, takes some seconds over it."""
        if threading.current_thread() is not threading.main_thread():
            return
        heard = signal.getsignal(signal.SIGINT)

        def say(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, heard)
            self.interrupted = True
            self._view.stopping()
            if callable(heard):
                heard(number, frame)

        signal.signal(signal.SIGINT, say)

    def trial(self, trial: TuneTrial) -> Trial:
        """The trial of the sweep that one of Tune's stands for."""
        return self._context.trial(trial.config, str(trial))

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        mine = self.trial(trial)
        self._results.ended(mine.row(), "running")
        self._view.started(mine)

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        mine = replace(self.trial(trial), settings=result[SETTINGS])
        values = {name: result.get(name) for name in REPORTED}
        self._results.report(mine.row(), {**values, "checkpoint": ""})
        self._view.reported(mine)

    def on_trial_save(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        row = self._results.newest(self.trial(trial).name)
        if row is not None and trial.checkpoint is not None:
            row["checkpoint"] = _relative(trial.checkpoint.path, self._results.folder)
            self._results.save()

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        mine = self.trial(trial)
        newest = self._results.newest(mine.name)
        if newest is None:
            self._results.ended(mine.row(), "failed", "it ended without a report")
        else:
            short = self._context.sweep.kind == "finetune" and newest[STEPS] < self._online.steps
            self._results.ended(mine.row(), "stopped" if short else "finished")
        self._view.ended(mine)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        mine = self.trial(trial)
        self._results.ended(mine.row(), "failed", _reason(trial))
        self._view.ended(mine)


def _relative(path: str, folder: SweepFolder) -> str:
    return posixpath.relpath(path, folder.location(""))


def _reason(trial: TuneTrial) -> str:
    """The user's mistake where it was one, else the last line of what was raised."""
    # Tune's own accessor reads a copy of this file that is made later.
    text = Path(trial.error_file).read_text(errors="replace") if trial.error_file else ""
    mistakes = re.findall(r"UserError: (.*)", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return str(mistakes[-1] if mistakes else lines[-1] if lines else "unknown")
