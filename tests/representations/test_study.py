"""Cells of the study, on random episodes of the real Hopper and a model with its first weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3pc_ray.errors import UserError
from m3pc_ray.representations import study
from m3pc_ray.representations.features import VARIANTS
from m3pc_ray.representations.study import StudySettings, train_cell
from m3pc_ray.representations.tables import study_table
from m3pc_ray.representations.td3 import TD3BC, TD3Config
from m3pc_ray.training.assemble import Models, load_models
from m3pc_ray.trajectories.episodes import Trajectories
from tests.tiny_run import make_tiny_run, random_hopper_episodes

TINY = StudySettings(updates=5, every=2, episodes=2, td3=TD3Config(hidden_width=16, batch_size=16))
SECONDS = ("seconds", "encoding_seconds")


@pytest.fixture(scope="module")
def episodes() -> Trajectories:
    return random_hopper_episodes()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, episodes: Trajectories) -> Models:
    return load_models(make_tiny_run(tmp_path_factory.mktemp("study") / "run", trajectories=episodes))


def cell(models: Models, episodes: Trajectories, *which: Any, settings: StudySettings = TINY) -> list[dict[str, Any]]:
    return list(train_cell(models, episodes, *which, settings, torch.float32))


def without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in SECONDS} for row in rows]


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_are_those_of_the_seed(models: Models, episodes: Trajectories, variant: str) -> None:
    rows = cell(models, episodes, variant, 0)
    assert [row["updates"] for row in rows] == [2, 4, 5]
    assert without_seconds(rows) == without_seconds(cell(models, episodes, variant, 0))
    other = cell(models, episodes, variant, 1)
    assert [row["critic_loss"] for row in rows] != [row["critic_loss"] for row in other]
    for row in rows:
        assert row["return_mean"] == pytest.approx(np.mean(row["returns"]))
        assert len(row["returns"]) == len(row["scores"]) == row["episodes"] == 2
        assert (row["variant"], row["seed"], row["environment"]) == (variant, 0, "Hopper-v4")
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)


def test_the_learner_sees_standardised_transitions_with_their_features(
    models: Models, episodes: Trajectories, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    update = TD3BC.update
    monkeypatch.setattr(TD3BC, "update", lambda self, batch: (seen.append(batch), update(self, batch))[1])
    cell(models, episodes, "state_action_frozen", 0)
    batch = seen[0]
    raw = batch["observations"].numpy() * models.statistics.states_std + models.statistics.states_mean
    following, ended = episodes.next_observations(), episodes.terminated()
    features = study.make_features("state_action_frozen", models.model)
    expected = features.pair(batch["observations"], batch["actions"])
    assert torch.allclose(batch["pair"], expected, atol=1e-5)
    assert torch.allclose(batch["next_state"], features.state(batch["next_observations"]), atol=1e-5)
    for row in range(len(raw)):
        at = int(np.abs(episodes.observations - raw[row]).sum(1).argmin())
        assert np.allclose(episodes.actions[at], batch["actions"][row], atol=1e-5)
        assert batch["terminated"][row] == float(ended[at])
        after = batch["next_observations"][row].numpy() * models.statistics.states_std + models.statistics.states_mean
        assert np.allclose(after, following[at], atol=1e-4)


def test_divergence_is_an_error_that_names_the_cell(models: Models, episodes: Trajectories) -> None:
    wild = dataclasses.replace(TINY, updates=40, every=40, td3=dataclasses.replace(TINY.td3, learning_rate=1e18))
    with pytest.raises(UserError, match="raw, seed 3: training diverged before update 40"):
        cell(models, episodes, "raw", 3, settings=wild)


def test_progress_may_interrupt(models: Models, episodes: Trajectories) -> None:
    heard: list[int] = []

    def progress(done: int) -> None:
        heard.append(done)
        if done >= 4:
            raise KeyboardInterrupt

    rows = train_cell(models, episodes, "raw", 0, TINY, torch.float32, progress)
    assert next(rows)["updates"] == 2
    assert set(heard) == {2}
    with pytest.raises(KeyboardInterrupt):
        next(rows)


def test_table_shows_final_and_area(tmp_path: Path) -> None:
    from rich.console import Console

    def row(seed: int, updates: int, *scores: float) -> dict[str, Any]:
        shared = {"variant": "raw", "seed": seed, "updates": updates, "seconds": 0.01 * updates, "episodes": 2}
        mean = float(np.mean(scores))
        return shared | {"score_mean": mean, "return_mean": 0.0, "scores": list(scores), "environment": "X-v0"}

    rows = [row(0, 1, 0, 2), row(0, 2, 10, 12), row(1, 1, 3, 5), row(1, 2, 20, 22)]
    with (tmp_path / "table.txt").open("w") as file:
        Console(file=file, width=100).print(study_table(rows))
    text = (tmp_path / "table.txt").read_text()
    # finals 11 and 21; four episodes 10, 12, 20, 22; areas (1 + 11) / 2 and (4 + 21) / 2
    assert "16.0 ± 5.0 / 2.9" in text
    assert "9.2 ± 3.2" in text
    assert "10.0" in text  # ms an update
