"""Scripted experts in robosuite, by `m3pc data collect --expert`; run by `make test-manipulation`."""

import importlib.util
import json

import numpy as np
import pytest

from m3pc_ray import cli
from m3pc_ray.collection.expert_data import EXPERTS
from m3pc_ray.trajectories.episodes import EpisodeEnd
from m3pc_ray.trajectories.resolve import load, locate, read
from m3pc_ray.trajectories.robomimic import masks

pytestmark = [
    pytest.mark.manipulation,
    pytest.mark.skipif(
        importlib.util.find_spec("robosuite") is None, reason="needs robosuite (make test-manipulation)"
    ),
]
FIELDS = ("observations", "actions", "rewards", "episode_starts", "episode_ends", "final_observations")


def collect(out, *words: str) -> None:
    assert cli.main(["data", "collect", "--out", str(out), "--seed", "50", *words]) == 0


@pytest.mark.parametrize("expert", ["lift", "can", "square"])
def test_without_noise_every_episode_is_solved(expert, tmp_path):
    collect(tmp_path / "a", "--expert", expert, "--episodes", "4")
    data = load(str(tmp_path / "a" / "rollouts"))
    assert data.metadata.environment_id == EXPERTS[expert].environment_id
    np.testing.assert_array_equal(data.returns, 1.0)
    assert np.abs(data.actions).max() <= 1.0


def test_a_paired_set_begins_alike_and_ends_well_and_badly(tmp_path):
    words = ["--expert", "can-paired", "--episodes", "4", "--noise", "0.05"]
    collect(tmp_path / "a", *words)
    collect(tmp_path / "b", *words, "--parallel", "3")
    data, beside = load(str(tmp_path / "a" / "rollouts")), load(str(tmp_path / "b" / "rollouts"))
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(data, field), getattr(beside, field))
    begins = data.observations[data.episode_starts[:-1]]
    np.testing.assert_array_equal(begins[0], begins[1])
    np.testing.assert_array_equal(begins[2], begins[3])
    assert not np.array_equal(begins[0], begins[2])
    assert data.returns.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert (data.episode_ends == EpisodeEnd.TERMINATED).all()  # nothing is earned after a script's end
    assert (data.final_observations[1::2, 11] < 0.6).all()  # below the table
    assert data.lengths.max() < 300
    file = tmp_path / "a" / "rollouts.hdf5"
    assert masks(file) == {"bad": 2, "failed": 2, "good": 2, "solved": 2, "train": 4, "valid": 0}
    good = read(locate(str(file)), mask="good")
    np.testing.assert_array_equal(good.observations, data.select([0, 2]).observations)


def test_noise_spoils_some_and_each_episode_has_its_own(tmp_path):
    words = ["--expert", "lift", "--noise", "0.8", "--clumsiness", "0.015", "--episodes", "12", "--noise-varies"]
    collect(tmp_path / "a", *words)
    data = load(str(tmp_path / "a" / "rollouts"))
    solved = data.rewards[data.episode_starts[1:] - 1]
    assert 0 < solved.sum() < 12
    asked = json.loads((tmp_path / "a" / "recipe.json").read_text())["asked"]
    assert (asked["noise"], asked["clumsiness"], asked["noise_varies"]) == (0.8, 0.015, True)
