"""Stable-Baselines3's methods: what they record, and how they go on."""

from __future__ import annotations

import numpy as np
import pytest

from m3pc_ray.comparison.method import Assignment
from m3pc_ray.comparison.methods import sac
from tests.comparison.recorder import Recorder, nothing
from tests.tiny_run import random_hopper_episodes

POINTS = (30, 60)


@pytest.mark.parametrize("method", ["sac", "rlpd"])
def test_sac_records_every_point_and_goes_on_after_an_interruption(tmp_path, monkeypatch, method):
    monkeypatch.setattr(sac, "LEARNING_STARTS", 20)
    trajectories = random_hopper_episodes(3, seed=4)
    work = Assignment("tiny", "", trajectories, 5, tmp_path, {"updates_per_step": 1}, POINTS)
    first = Recorder(stop_at=POINTS[1])
    with pytest.raises(KeyboardInterrupt):
        getattr(sac, method)(work, first, nothing)
    assert list(first.kept) == [POINTS[0]]
    second = Recorder()
    getattr(sac, method)(work, second, nothing)
    assert list(second.kept) == [POINTS[1]]
    assert second.kept[POINTS[1]][0] - first.kept[POINTS[0]][0] == POINTS[1] - POINTS[0]
    actions = second.kept[POINTS[1]][1](trajectories.observations[:7])
    assert actions.shape == (7, 3)
    assert np.abs(actions).max() <= 1
