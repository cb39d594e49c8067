"""The configuration of a finetuned run."""

import pytest

from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.training.data_parts import data_parts
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.store import checksum
from tests.tiny_run import random_hopper_episodes


def test_sharpness_is_scaled_once_and_never_against_an_override(pretrained, tmp_path) -> None:
    before = pretrained.config().planner
    config = finetune_config(pretrained, {"online.sharpness_factor": "0.25"})
    assert config.planner.utility_sharpness_critic == pytest.approx(0.25 * before.utility_sharpness_critic)
    assert config.planner.utility_sharpness_return == pytest.approx(0.25 * before.utility_sharpness_return)
    run = prepare(pretrained, tmp_path / "run", config)
    assert finetune_config(run, {}).planner == config.planner
    given = {"online.sharpness_factor": "0.25", "planner.utility_sharpness_critic": "0.7"}
    assert finetune_config(pretrained, given).planner.utility_sharpness_critic == 0.7


def test_what_the_weights_depend_on_cannot_change(pretrained) -> None:
    with pytest.raises(UserError, match=r"model\.width: fixed by the pretrained weights"):
        finetune_config(pretrained, {"model.width": "32"})


def test_another_seed_keeps_the_episodes_that_were_chosen(pretrained, tmp_path) -> None:
    trajectories = random_hopper_episodes()
    fractions = {"data.labelled_fraction": "0.4", "data.episodes_fraction": "0.7"}
    learnt = with_settings(pretrained.config(), {**fractions, "data.validation_fraction": "0.2"})
    before = RunFolder.create(tmp_path / "before", learnt, "pretrain")
    config = finetune_config(before, {"seed": str(learnt.seed + 1)})
    assert config.seed == learnt.seed + 1
    expected, found = data_parts(trajectories, learnt), data_parts(trajectories, config)
    for name in ("validation", "transitions"):
        assert checksum(getattr(found, name)) == checksum(getattr(expected, name))
    again = RunFolder.create(tmp_path / "again", config, "finetune")
    assert data_parts(trajectories, finetune_config(again, {"seed": "77"})).transitions.num_steps == (
        expected.transitions.num_steps
    )
    other = data_parts(trajectories, with_settings(learnt, {"seed": str(learnt.seed + 1)}))
    assert checksum(other.transitions) != checksum(expected.transitions)
