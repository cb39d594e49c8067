"""Trials as they are planned: every setting with every seed and run, data sets found from every working folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.training.run_folder import RunFolder
from tune.definition import Sweep
from tune.plan import configuration_of, open_sources, plan_trials, with_absolute_paths
from tune.sweep_file import read_sweep


@pytest.fixture
def sweep(pretrained: RunFolder) -> Sweep:
    space = {"data.dataset": ["a.hdf5", "b.hdf5"]}
    tree = {"kind": "finetune", "space": space, "seeds": [1, 2], "runs": [str(pretrained.path)], "name": "s"}
    return read_sweep({**tree, "baseline": {"settings": {"data.dataset": "base.hdf5"}}}, "test")


def test_varied_data_sets_reach_their_trials(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    for name in ("a.hdf5", "base.hdf5"):
        (folder / name).touch()
    monkeypatch.chdir(folder)
    found = with_absolute_paths(sweep)
    monkeypatch.chdir(tmp_path)  # as Ray Tune's processes do
    (source,) = sources = open_sources(found)
    trials = plan_trials(found, sources)
    used = [configuration_of(found, source, trial).data.dataset for trial in trials]
    assert used == [str(folder / "base.hdf5"), str(folder / "a.hdf5"), "b.hdf5"] * 2  # nobody has a b.hdf5
    assert [trial.row()["dataset"] for trial in trials if not trial.baseline] == [str(folder / "a.hdf5"), "b.hdf5"] * 2
    assert [trial.seed for trial in trials] == [1, 1, 1, 2, 2, 2]
    assert len({trial.name for trial in trials}) == 6


def test_schedulers_take_runs_of_one_environment(pretrained: RunFolder) -> None:
    space = {"planner.td_lambda": {"uniform": [0, 1]}}
    tree = {"kind": "finetune", "space": space, "scheduler": "pbt", "runs": [str(pretrained.path)], "name": "s"}
    sweep = read_sweep(tree, "test")
    (source,) = open_sources(sweep)
    assert len(plan_trials(sweep, [source])) == 1
    other = {**source.models, "metadata": {**source.models["metadata"], "environment_id": "Hopper-v5"}}
    with pytest.raises(UserError, match="scheduler: pbt compares trials; all runs must be of one environment"):
        plan_trials(sweep, [source, type(source)(source.folder, source.config, other, source.has_critic)])
