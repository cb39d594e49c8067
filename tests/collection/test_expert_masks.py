"""Which episodes of scripted demonstrations are for training and which for validation."""

from __future__ import annotations

import numpy as np
import pytest

from m3pc_ray.collection.expert_data import ExpertData
from m3pc_ray.trajectories.episodes import EpisodeEnd
from tests.trajectories.manipulation_factory import make_manipulation


@pytest.mark.parametrize(("expert", "attempts"), [("can", 1), ("can-paired", 2)])
def test_attempts_from_one_beginning_stay_together(expert: str, attempts: int) -> None:
    data = make_manipulation([EpisodeEnd.TERMINATED] * 40, length=3)
    data.rewards[data.episode_starts[1:][1::2] - 1] = 0.0  # every other one fails
    masks = {name: np.asarray(rows) for name, rows in ExpertData(expert, 40).masks(data).items()}
    assert sorted([*masks["train"], *masks["valid"]]) == list(range(40))
    beginnings = masks["valid"] // attempts
    assert sorted(beginnings) == sorted(np.repeat(np.unique(beginnings), attempts))
    assert len(masks["valid"]) == 4
    np.testing.assert_array_equal(masks["solved"], np.arange(0, 40, 2))
    np.testing.assert_array_equal(masks["failed"], np.arange(1, 40, 2))
    if expert == "can-paired":
        assert len(np.intersect1d(masks["valid"], masks["solved"])) == 2  # neither kind alone
        np.testing.assert_array_equal(masks["good"], masks["solved"])
        np.testing.assert_array_equal(masks["bad"], masks["failed"])
