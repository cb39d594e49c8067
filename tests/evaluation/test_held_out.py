"""The episodes a run did not learn from are found again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.held_out import is_data_of_run, split_of_run
from m3pc_ray.training.assemble import Models, load_models
from m3pc_ray.training.pretraining import Pretraining
from m3pc_ray.training.run_folder import RunFolder
from tests.tiny_run import make_tiny_run, random_hopper_episodes


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return load_models(make_tiny_run(tmp_path / "run"))


def with_data(models: Models, **settings: float) -> Models:
    return dataclasses.replace(
        models, config=dataclasses.replace(models.config, data=dataclasses.replace(models.config.data, **settings))
    )


@pytest.mark.parametrize("fraction", [1.0, 0.4])
def test_the_split_is_that_of_pretraining(models: Models, tmp_path: Path, fraction: float) -> None:
    trajectories = random_hopper_episodes()
    changed = with_data(models, episodes_fraction=fraction)
    pretraining = Pretraining(
        RunFolder.create(tmp_path / "new", changed.config, "pretrain"), changed.config, trajectories
    )
    learned, held_out = split_of_run(changed, trajectories)
    assert held_out.num_episodes == 3
    for part, data in ((learned, pretraining.segments), (held_out, pretraining.validation)):
        statistics = pretraining.models.statistics
        expected = (part.observations - statistics.states_mean) / statistics.states_std
        np.testing.assert_allclose(data.columns["states"].numpy(), expected, atol=1e-5)
    _, as_of_full = split_of_run(models, trajectories)
    np.testing.assert_array_equal(as_of_full.observations, held_out.observations)


def test_foreign_data_and_runs_that_hold_nothing_out(models: Models) -> None:
    trajectories = random_hopper_episodes(4)
    assert is_data_of_run(models, trajectories)
    foreign = dataclasses.replace(trajectories, metadata=trajectories.metadata.replace(name="other"))
    assert not is_data_of_run(models, foreign)
    narrow = dataclasses.replace(trajectories, actions=trajectories.actions[:, :2])
    with pytest.raises(UserError, match="action size is 2"):
        split_of_run(models, narrow)
    with pytest.raises(UserError, match="held no episodes out"):
        split_of_run(with_data(models, validation_fraction=0.0), trajectories)
