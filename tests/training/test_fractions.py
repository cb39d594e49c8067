"""Training on a fraction of the episodes: which ones, and what else follows from them alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m3pc_ray import cli
from m3pc_ray.config import DataConfig
from m3pc_ray.errors import UserError
from m3pc_ray.training.assemble import build_models, load_models
from m3pc_ray.training.data_parts import data_parts
from m3pc_ray.training.pretraining import Pretraining, load_data
from m3pc_ray.training.run_folder import RunFolder
from tests.training.test_pretraining import make_config, make_trajectories


def test_a_smaller_fraction_is_part_of_a_larger_one() -> None:
    trajectories = make_trajectories()
    for seed in range(5):
        kept = [set(trajectories.fraction(fraction, seed).returns) for fraction in (0.01, 0.3, 0.5, 1.0)]
        assert [len(returns) for returns in kept] == [1, 2, 4, 8]
        assert all(small <= large for small, large in zip(kept, kept[1:], strict=False))
    assert len({float(trajectories.fraction(0.01, seed).returns[0]) for seed in range(20)}) > 3
    for fraction in (0.0, -0.5, 1.5):
        with pytest.raises(UserError, match="above 0 and at most 1"):
            trajectories.fraction(fraction, 0)


def test_a_run_on_a_fraction_knows_nothing_of_the_other_episodes(tmp_path: Path) -> None:
    trajectories = make_trajectories()
    config = make_config()
    config = replace(config, data=replace(config.data, validation_fraction=0.25, episodes_fraction=0.5))
    train, held_out = trajectories.split(0.25, config.seed)
    part = train.fraction(0.5, config.seed)
    pretraining = Pretraining(RunFolder.create(tmp_path / "run", config, "pretrain"), config, trajectories)
    expected = build_models(config, part)
    assert pretraining.models.statistics.to_dict() == expected.statistics.to_dict()
    assert pretraining.models.prompt.to_dict() == expected.prompt.to_dict()
    assert len(pretraining.segments.columns) == part.num_steps < train.num_steps
    assert len(pretraining.validation.columns) == held_out.num_steps
    assert len(pretraining.transitions.columns) <= part.num_steps
    pretraining.train()
    resumed = Pretraining.resume(pretraining.run, trajectories)
    np.testing.assert_array_equal(resumed.segments.columns.values, pretraining.segments.columns.values)


def test_the_whole_is_the_default() -> None:
    assert DataConfig().episodes_fraction == 1.0
    trajectories = make_trajectories()
    np.testing.assert_array_equal(trajectories.fraction(1.0, 3).observations, trajectories.observations)


def test_the_command_builds_its_models_on_the_fraction_too(tmp_path: Path) -> None:
    options = {
        "model.width": 16,
        "model.heads": 2,
        "pretrain.steps": 2,
        "pretrain.batch_size": 8,
        "pretrain.threads": 1,
    }
    options |= {"data.dataset": "bundled/hopper", "data.episodes_fraction": 0.05, "pretrain.components": "btm"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert cli.main(["pretrain", "--out", str(tmp_path / "run"), *words, "--device", "cpu"]) == 0
    run = RunFolder.open(tmp_path / "run")
    whole = load_data(run.config())
    part = data_parts(whole, run.config()).described
    assert part.num_episodes < whole.num_episodes
    models, expected = load_models(run), build_models(run.config(), part)
    assert models.statistics.to_dict() == expected.statistics.to_dict()
    assert models.prompt.to_dict() == expected.prompt.to_dict()
    assert models.statistics.to_dict() != build_models(run.config(), whole).statistics.to_dict()
