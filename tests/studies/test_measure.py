"""What a study measures of a cell, against plain computations."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from m3pc_ray.agent import Agent
from m3pc_ray.evaluation.capabilities.dynamics import WINDOWS
from m3pc_ray.evaluation.evaluate import evaluate_planners
from m3pc_ray.model.masks import forward_dynamics
from m3pc_ray.studies import measure, train
from m3pc_ray.studies.records import StudyFolder
from m3pc_ray.studies.study_file import load_study
from m3pc_ray.training.assemble import load_models
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.training.utility_units import measure_utility_units
from tests.studies.factory import study_tree, write_study
from tests.studies.test_conduct import study


def test_a_critic_of_another_run_plans_with_units_of_its_own(tmp_path: Path) -> None:
    tree = study_tree()["variants"]
    variants = {"standard": tree["standard"], "borrowed": {"critic": "standard", "settings": {"masks.groups": 1}}}
    write_study(tmp_path / "small.yaml", variants=variants, columns=["score/critic"])
    assert study(tmp_path) == 0
    rows = json.loads((tmp_path / "out/small.json").read_text())["rows"]
    assert {row["missing"] for row in rows} == {None}
    folder = StudyFolder(tmp_path / "out")
    standard, borrowed = load_study(tmp_path / "small.yaml").cells()
    models, _ = measure.load_cell(folder, borrowed)
    theirs, alone = load_models(folder.run(standard)), load_models(folder.run(borrowed))
    critic = theirs.critic.state_dict()
    assert all(torch.equal(value, critic[name]) for name, value in models.critic.state_dict().items())
    weights = alone.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in models.model.state_dict().items())
    both = dataclasses.replace(alone, critic=theirs.critic, critic_updates=theirs.critic_updates)
    units = measure_utility_units(both, train.data_of(alone.config), 0)
    assert models.config.planner.utility_unit_critic == pytest.approx(units["critic"])
    assert alone.config.planner.utility_unit_critic == 1.0
    config = type(models.config.evaluation)(episodes=2, seed=7)
    (expected,) = evaluate_planners(Agent.from_models(models, "critic"), ["critic"], config)
    assert rows[1]["mean"] == pytest.approx(expected["score_mean"])


def test_dynamics_errors_of_runs_on_parts_of_the_data_share_their_unit(tmp_path: Path) -> None:
    part = {"settings": {"data.episodes_fraction": 0.1}}
    evaluation = {"planners": [], "episodes": 2}
    write_study(
        tmp_path / "small.yaml", variants={"part": part}, columns=["dynamics/1", "dynamics/3"], evaluation=evaluation
    )
    assert study(tmp_path) == 0
    rows = json.loads((tmp_path / "out/small.json").read_text())["rows"]
    models = load_models(RunFolder.open(tmp_path / "out/runs/hop-part-s0"))
    whole = train.data_of(models.config)
    _, held_out = whole.split(models.config.data.validation_fraction, 0)
    # Window by window, in raw units, divided by the whole data's variance.
    units = np.where((std := whole.observations.std(axis=0, dtype=np.float64)) < 0.1, 1.0, std)
    assert not np.allclose(units, models.statistics.states_std, rtol=0.01)
    squared: dict[int, list[np.ndarray]] = {1: [], 3: []}
    mean, own = models.statistics.states_mean, models.statistics.states_std
    for first, last in zip(held_out.episode_starts[:-1], held_out.episode_starts[1:], strict=True):
        for start in range(first, last - 7):
            rows_of_window = slice(start, start + 8)
            tokens = {name: torch.zeros(1, 8, 1) for name in ("returns", "rewards")}
            actions = np.clip(held_out.actions[rows_of_window], -1, 1)
            states = (held_out.observations[rows_of_window] - mean) / own
            tokens |= {"states": torch.as_tensor(states)[None], "actions": torch.as_tensor(actions)[None]}
            with torch.no_grad():
                predicted = models.model(tokens, forward_dynamics(8, 0)).states[0].numpy() * own + mean
            for ahead, errors in squared.items():
                true = held_out.observations[start + ahead]
                errors.append(np.square((predicted[ahead] - true) / units))
    for row, ahead in zip(rows, (1, 3), strict=True):
        if len(squared[ahead]) <= WINDOWS:
            assert row["mean"] == pytest.approx(np.mean(squared[ahead]), rel=1e-4)
        else:
            pytest.fail("the bundled data has grown: compare on the windows that are drawn")


def test_behaviour_cloning_learns_from_the_labelled_episodes_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = measure.train_behaviour_cloning

    def watched(trajectories, **settings):
        seen.append(trajectories)
        return original(trajectories, **settings)

    monkeypatch.setattr(measure, "train_behaviour_cloning", watched)
    write_study(
        tmp_path / "small.yaml",
        variants={
            "part": {"settings": {"data.episodes_fraction": 0.3}},
            "labelled": {"settings": {"data.labelled_fraction": 0.3}},
        },
        columns=["score/mlp_bc"],
        evaluation={"planners": [], "episodes": 2, "seed": 7, "mlp_bc": {"steps": 3, "batch_size": 4}},
    )
    assert study(tmp_path) == 0
    first, second = seen
    assert 0 < first.num_episodes == second.num_episodes
    np.testing.assert_array_equal(first.actions, second.actions)
    assert second.actions_known is None
    rows = json.loads((tmp_path / "out/small.json").read_text())["rows"]
    assert rows[0]["mean"] == pytest.approx(rows[1]["mean"])
