"""A trial that is a whole online run; it goes on from wherever the run stands."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray.tune

from actors.run_on_ray import run_on_ray
from m3pc_ray.config import OnlineConfig, RunConfig
from m3pc_ray.online.preparation import prepare
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.training.checkpoints import list_checkpoints
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.run_folder import RunFolder, write_atomically
from tune.definition import Sweep
from tune.fitting import role_bundles
from tune.folder import SweepFolder
from tune.plan import Source, Trial, configuration_of, open_source
from tune.reporting import TrialContext, report
from tune.snapshot import LAST_EVALUATION, continue_copy, copy_run, logged_steps, owner_of


def finetune_trial(config: dict[str, Any], context: TrialContext) -> None:
    """Bring one online run to its end and report every evaluation."""
    trial = context.this_trial(config)
    source = open_source(trial.run)
    settings = configuration_of(context.sweep, source, trial)
    run = take_up(trial, source, settings, context)
    if run.summary()["status"] != "finished":
        _train(run, trial, settings, context)
    row = json.loads((run.path / LAST_EVALUATION).read_text())
    _report(run, trial, row, settings.online, run.summary()["seconds"], context)


def _train(run: RunFolder, trial: Trial, settings: RunConfig, context: TrialContext) -> None:
    bundles = role_bundles(context.sweep, settings, context.nodes)
    with run.exclusive():
        run.write_summary({"status": "running"})
        try:
            with TrialProgress(run, settings, trial, context) as progress, StopRequest() as stop:
                run_on_ray(run, progress, stop, bundles=bundles)
        except SystemExit:  # Ray Tune has ended the trial; `m3pc resume` could go on with the run
            run.note_failure(status="interrupted")
            raise
        except BaseException:
            run.note_failure()
            raise


class TrialProgress(OnlineProgress):
    """Shows nothing; reports every evaluation but the last, which is reported once the run is complete."""

    def __init__(self, run: RunFolder, config: RunConfig, trial: Trial, context: TrialContext) -> None:
        super().__init__(run, config, quiet=True)
        self._trial, self._context = trial, context

    def evaluation(self, rows: Sequence[dict[str, Any]]) -> None:
        """The rows of one evaluation, the run's planner last."""
        super().evaluation(rows)
        row = dict(rows[-1])
        if row["environment_steps"] >= self.config.online.steps:
            write_atomically(self.run.path / LAST_EVALUATION, json.dumps(row))
        else:
            _report(self.run, self._trial, row, self.config.online, self.seconds, self._context)


def _report(
    run: RunFolder, trial: Trial, row: dict[str, Any], online: OnlineConfig, seconds: float, context: TrialContext
) -> None:
    """Report one evaluation, with a copy of the run as it is now where these are kept."""
    step = report_step(row["environment_steps"], online)
    if not context.keep_copies:
        report(trial, row, step, seconds)
        return
    with _scratch(run.path) as directory:
        copy_run(run, directory / "copy", trial.name)
        report(trial, row, step, seconds, ray.tune.Checkpoint.from_directory(str(directory / "copy")))


@contextlib.contextmanager
def _scratch(run: Path) -> Iterator[Path]:
    """A folder beside the run, for copies; what a killed trial left there is removed."""
    folder = run.with_name(f".{run.name}.copies")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report_step(steps: int, online: OnlineConfig) -> int:
    """The step that an evaluation was meant for: weights are asked for once it is reached, and then have learnt from a
    few steps more."""
    if steps >= online.steps or online.evaluate_every == 0:
        return online.steps if steps else 0
    return steps - steps % online.evaluate_every


def take_up(trial: Trial, source: Source, settings: RunConfig, context: TrialContext) -> RunFolder:
    """The run of a trial: the one it has, a copy it is to go on from, or a new one.

    Of its own run and a copy of that the one with more steps is taken. A copy of another trial's run, which the best of
    a population hands over, replaces what it has.
    """
    path = run_path(context.sweep, context.address, trial.name)
    with _scratch(path) as directory:
        copy = _copy_to_continue(trial, context, directory / "copy")
        mine = bool(list_checkpoints(path)) and (path / "summary.json").exists()
        if copy is not None:
            if mine and owner_of(copy) == trial.name and logged_steps(path) >= logged_steps(copy):
                return RunFolder.open(path)
            return continue_copy(copy, path, settings)
    if mine:
        return RunFolder.open(path)
    shutil.rmtree(path, ignore_errors=True)  # what was left of a start that did not come to its end
    return prepare(source.folder, path, settings)


def _copy_to_continue(trial: Trial, context: TrialContext, target: Path) -> Path | None:
    """The copy that this sitting's Ray Tune hands over, else the one of an earlier sitting."""
    handed = ray.tune.get_checkpoint()
    if handed is not None:
        return Path(handed.to_directory(str(target)))
    if trial.checkpoint:
        SweepFolder(context.address).fetch(trial.checkpoint, target)
        return target
    return None


def run_path(sweep: Sweep, address: str, trial: str) -> Path:
    """Where the run of a trial is: in the sweep's folder, or in this machine's temporary one where that is no path."""
    folder = SweepFolder(address)
    if folder.path is not None:
        return folder.path / "trials" / trial
    return Path(tempfile.gettempdir()) / f"m3pc-sweep-{sweep.identity}" / trial
