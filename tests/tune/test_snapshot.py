"""Copies of runs that go on: whole runs that continue with exact counts, whichever of two has more steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import ray.tune

from m3pc_ray.config import OnlineConfig, RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.online.loop import SerialRun
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.training.checkpoints import list_checkpoints, load_checkpoint
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.run_folder import RunFolder
from tests.actors.checks import assert_exact
from tune.definition import Sweep
from tune.finetune_trial import report_step, run_path, take_up
from tune.plan import Source, Trial, open_source
from tune.reporting import TrialContext
from tune.snapshot import continue_copy, copy_run, logged_steps, owner_of


class Interrupting(OnlineProgress):
    """Copies the run at 60 steps while it goes on, and stops it at 120."""

    def __init__(self, run: RunFolder, stop: StopRequest, copy: Path) -> None:
        super().__init__(run, run.config(), quiet=True)
        self.stop, self.copy = stop, copy

    def update(self, steps, updates, values, force=False):
        super().update(steps, updates, values, force)
        if steps >= 60 and not self.copy.exists():
            copy_run(self.run, self.copy, "00003")
        self.stop.requested |= steps >= 120


@pytest.fixture
def interrupted(pretrained: RunFolder, tmp_path: Path) -> tuple[RunFolder, Path]:
    """A run with more than 120 steps, and a copy of it from about the 60th."""
    config = finetune_config(pretrained, {"online.checkpoint_updates": 2, "online.evaluate_every": 0})
    run, stop = prepare(pretrained, tmp_path / "run", config), StopRequest()
    with Interrupting(run, stop, tmp_path / "copy") as progress, pytest.raises(KeyboardInterrupt):
        SerialRun(run, progress, stop).train()
    return run, tmp_path / "copy"


def finish(run: RunFolder) -> None:
    stop = StopRequest()
    with OnlineProgress(run, run.config(), quiet=True) as progress:
        SerialRun(run, progress, stop).train()


def test_a_copy_goes_on_to_exact_counts(interrupted: tuple[RunFolder, Path], tmp_path: Path) -> None:
    run, copy = interrupted
    assert owner_of(copy) == "00003"
    assert 60 <= logged_steps(copy) < logged_steps(run.path)
    assert list_checkpoints(copy)[-1] <= logged_steps(copy)
    config = with_settings(run.config(), {"planner.td_lambda": 0.123})
    again = continue_copy(copy, tmp_path / "again", config)
    assert again.config().planner.td_lambda == 0.123
    assert logged_steps(again.path) == logged_steps(copy)
    finish(again)
    assert_exact(again)
    assert logged_steps(copy) < 120  # the copy itself is as it was
    assert load_checkpoint(copy)[1]["environment_steps"] < 120


def test_a_copy_keeps_the_noise_that_was_measured(pretrained: RunFolder, tmp_path: Path) -> None:
    """Trials' settings come from the pretrained run, which does not know it."""
    config = finetune_config(pretrained, {"online.action_noise": "fixed"})
    run = prepare(pretrained, tmp_path / "run", config)
    copy_run(run, tmp_path / "copy", "00003")
    measured = run.config().planner.noise_std
    assert measured is not None
    assert continue_copy(tmp_path / "copy", tmp_path / "again", config).config().planner.noise_std == measured
    given = with_settings(config, {"planner.noise_std": 0.125})
    assert continue_copy(tmp_path / "copy", tmp_path / "other", given).config().planner.noise_std == 0.125


def test_a_run_without_a_checkpoint_has_no_copy(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", RunConfig(), "finetune")
    with pytest.raises(UserError, match="no complete checkpoint to continue from"):
        copy_run(run, tmp_path / "copy", "00000")
    assert not (tmp_path / "copy").exists()


@pytest.fixture
def trial(pretrained: RunFolder) -> tuple[Trial, Source, RunConfig]:
    source = open_source(str(pretrained.path))
    trial = Trial("00003", {}, 0, str(pretrained.path), source.environment, source.config.data.dataset)
    return trial, source, finetune_config(pretrained, {"online.evaluate_every": 0})


def context(tmp_path: Path) -> TrialContext:
    return TrialContext(Sweep("s", "finetune"), str(tmp_path / "sweep"), (), [], True, {})


@pytest.mark.filterwarnings("ignore:.*session")
def test_a_trial_goes_on_with_what_has_more_steps(
    interrupted: tuple[RunFolder, Path], trial: tuple[Trial, Source, RunConfig], tmp_path: Path, monkeypatch
) -> None:
    run, copy = interrupted
    mine, source, settings = trial
    path = run_path(Sweep("s", "finetune"), str(tmp_path / "sweep"), mine.name)
    handed: list[ray.tune.Checkpoint] = []
    monkeypatch.setattr("ray.tune.get_checkpoint", lambda: handed[0] if handed else None)

    fresh = take_up(mine, source, settings, context(tmp_path))
    assert fresh.path == path
    assert logged_steps(path) == 0

    handed.append(ray.tune.Checkpoint.from_directory(str(copy)))
    ahead = take_up(mine, source, settings, context(tmp_path))
    assert logged_steps(ahead.path) == logged_steps(copy)  # the copy is ahead of a new run

    newer = tmp_path / "newer"
    copy_run(run, newer, "00003")
    handed[0] = ray.tune.Checkpoint.from_directory(str(newer))
    take_up(mine, source, settings, context(tmp_path))
    assert logged_steps(path) == logged_steps(run.path)
    handed[0] = ray.tune.Checkpoint.from_directory(str(copy))
    take_up(mine, source, settings, context(tmp_path))
    assert logged_steps(path) == logged_steps(run.path)  # its own run is ahead of an old copy of it

    other = tmp_path / "other"
    copy_run(RunFolder.open(copy), other, "00001")
    handed[0] = ray.tune.Checkpoint.from_directory(str(other))
    changed = replace(settings, planner=replace(settings.planner, td_lambda=0.5))
    given = take_up(mine, source, changed, context(tmp_path))
    assert logged_steps(path) == logged_steps(other)  # another trial's replaces it, behind or not
    assert given.config().planner.td_lambda == 0.5


@pytest.mark.filterwarnings("ignore:.*session")
def test_a_start_that_was_cut_off_is_made_again(
    trial: tuple[Trial, Source, RunConfig], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("ray.tune.get_checkpoint", lambda: None)
    mine, source, settings = trial
    path = run_path(Sweep("s", "finetune"), str(tmp_path / "sweep"), mine.name)
    (path / "checkpoints").mkdir(parents=True)
    assert list_checkpoints(take_up(mine, source, settings, context(tmp_path))) == [0]


def test_an_evaluation_belongs_to_the_step_it_was_meant_for() -> None:
    online = OnlineConfig(steps=1000, evaluate_every=250)
    meant = {0: 0, 250: 250, 263: 250, 499: 250, 500: 500, 999: 750, 1000: 1000}
    assert {steps: report_step(steps, online) for steps in meant} == meant
    assert report_step(1000, OnlineConfig(steps=1000, evaluate_every=0)) == 1000


def test_a_checkpoint_that_vanishes_meanwhile_is_no_mishap(
    interrupted: tuple[RunFolder, Path], tmp_path: Path, monkeypatch
) -> None:
    run, _ = interrupted
    gone = iter([list_checkpoints(run)[0] - 1, list_checkpoints(run)[0] - 1])
    monkeypatch.setattr(
        "tune.snapshot.list_checkpoints", lambda run: [step] if (step := next(gone, None)) else list_checkpoints(run)
    )
    copy_run(run, tmp_path / "third", "00000")
    assert logged_steps(tmp_path / "third") == logged_steps(run.path)
    assert next(gone, None) is None
