"""The configuration of a finetuned run."""

import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.online.preparation import finetune_config, prepare


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
