"""When a run that is there is the one a study wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.studies.agreement import check_agrees, digest, identity, training_settings
from m3pc_ray.training.run_folder import RunFolder


def config(**settings: Any) -> RunConfig:
    return with_settings(RunConfig(), {name.replace("__", "."): value for name, value in settings.items()})


ALIKE = [
    ({}, {"planner__horizon": 2, "evaluation__episodes": 3, "logging__tensorboard": False, "pretrain__threads": 2}),
    ({"pretrain__order": "in_turn"}, {"pretrain__order": "side_by_side"}),
    ({"pretrain__components": "btm"}, {"pretrain__components": "btm", "critic__updates": 5}),
    ({"pretrain__components": "critic"}, {"pretrain__components": "critic", "masks__groups": 1, "pretrain__steps": 3}),
]
DIFFERENT = [
    ({}, {"masks__groups": 1}, "masks.groups: trained with 2, the study wants 1"),
    ({}, {"critic__updates": 5}, "critic.updates: trained with 200000, the study wants 5"),
    ({}, {"seed": 4}, "seed: trained with 0, the study wants 4"),
    ({}, {"data__episodes_fraction": 0.1}, "data.episodes_fraction: trained with 1.0, the study wants 0.1"),
    ({}, {"pretrain__components": "btm"}, "pretrain.components: trained with both, the study wants btm"),
    (
        {"pretrain__components": "btm"},
        {"pretrain__components": "critic"},
        "pretrain.components: trained with btm, the study wants critic",
    ),
    (
        {"pretrain__max_minutes": 5, "pretrain__order": "in_turn"},
        {"pretrain__max_minutes": 5, "pretrain__order": "side_by_side"},
        "pretrain.order: trained with in_turn, the study wants side_by_side",
    ),
]


@pytest.mark.parametrize(("first", "second"), ALIKE)
def test_settings_that_change_no_weight_may_differ(tmp_path: Path, first: Any, second: Any) -> None:
    assert identity(config(**first)) == identity(config(**second))
    check_agrees(RunFolder.create(tmp_path / "run", config(**first), "pretrain"), config(**second), None)


@pytest.mark.parametrize(("first", "second", "message"), DIFFERENT)
def test_others_are_named_with_both_values(tmp_path: Path, first: Any, second: Any, message: str) -> None:
    assert digest(identity(config(**first))) != digest(identity(config(**second)))
    run = RunFolder.create(tmp_path / "run", config(**first), "pretrain")
    with pytest.raises(UserError, match=message):
        check_agrees(run, config(**second), None)


def test_what_a_run_started_from_must_agree(tmp_path: Path) -> None:
    alone = config(pretrain__components="btm")
    source = RunFolder.create(tmp_path / "source", config(), "pretrain")
    source.write_summary({"status": "finished", "critic_updates": 70})
    run = RunFolder.create(tmp_path / "run", alone, "pretrain")
    run.write_summary({"status": "finished", "critic_updates": 70})
    check_agrees(run, alone, source)
    with pytest.raises(UserError, match="critic_updates: 70 came with what it started from"):
        check_agrees(run, alone, None)
    run.write_summary({"critic_updates": 0})
    check_agrees(run, alone, None)
    with pytest.raises(UserError, match="takes that from source"):
        check_agrees(run, alone, source)


def test_the_defaults_have_no_identity_and_paths_count_as_absolute(tmp_path: Path, monkeypatch: Any) -> None:
    assert identity(RunConfig()) == {}
    (tmp_path / "data.hdf5").touch()
    monkeypatch.chdir(tmp_path)
    expected = str((tmp_path / "data.hdf5").resolve())
    assert training_settings(config(data__dataset="data.hdf5"))["data.dataset"] == expected
