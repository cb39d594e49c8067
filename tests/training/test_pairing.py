"""Runs that plan together: the checks, the units of the pair, the command."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from m3pc_ray.cli import main
from m3pc_ray.config import PlannerConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.training.assemble import Models, build_models
from m3pc_ray.training.pairing import paired_models
from m3pc_ray.training.utility_units import best_share, data_context
from tests.tiny_run import make_tiny_run, random_hopper_episodes
from tests.training.test_pretraining import make_config, make_trajectories


def make_models(seed: int) -> Models:
    config = replace(make_config(utility_unit_power=0.5), seed=seed, planner=PlannerConfig(num_candidates=8))
    return build_models(config, make_trajectories())


def test_units_are_the_spread_of_the_pairs_own_utilities() -> None:
    predicts, proposes, trajectories = make_models(0), make_models(1), make_trajectories()
    paired = paired_models(predicts, proposes, trajectories)
    settings = replace(predicts.config.planner, guide="return")
    context = data_context(predicts, best_share(trajectories, 0.1), settings.context_length, predicts.config.seed)
    planner = ForwardPlanner(
        predicts.model, None, settings, predicts.config.critic.discount, predicts.prompt, proposer=proposes.model
    )
    details = planner.plan(context, details=True).details
    assert details is not None
    expected = float(details.utilities.std(axis=1).mean()) ** 0.5
    assert paired.config.planner.utility_unit_return == pytest.approx(expected, rel=1e-5)
    alone = paired_models(predicts, predicts, trajectories)
    assert alone.config.planner.utility_unit_return != paired.config.planner.utility_unit_return
    assert paired.model is predicts.model


@pytest.mark.parametrize("setting, value", [("data.return_scale", "sum"), ("model.segment_length", 4)])
def test_runs_of_other_data_or_windows_are_refused(setting: str, value: str | int) -> None:
    predicts, trajectories = make_models(0), make_trajectories()
    config = with_settings(predicts.config, {setting: value, "planner.context_length": 2})
    with pytest.raises(UserError, match="same data"):
        paired_models(predicts, build_models(config, trajectories), trajectories)


def test_evaluate_plays_with_a_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (make_tiny_run(tmp_path / name) for name in ("first", "second"))
    words = ["evaluate", "--run", str(first.path), "--planner", "return", "--episodes", "1"]
    pair = [*words, "--propose-from", str(second.path)]
    assert main(pair) == 2, "the data set is not there to measure units on"
    assert "random-hopper" in capsys.readouterr().err
    target = tmp_path / "rows.json"
    assert main([*pair, "--planner.utility_unit_return", "1", "--json", str(target)]) == 0
    (row,) = json.loads(target.read_text())["rows"]
    assert (row["planner"], row["propose_from"]) == ("return", str(second.path))
    assert first.summary()["scores"] == {}, "a pair's score is not the run's"
    critic = [*pair, "--planner", "critic", "--planner.utility_unit_return", "1"]
    assert main(critic) == 2, "the critic's unit is not given"
    assert "random-hopper" in capsys.readouterr().err
    other = make_tiny_run(tmp_path / "other", trajectories=random_hopper_episodes(seed=99))
    assert main([*words, "--propose-from", str(other.path), "--planner.utility_unit_return", "1"]) == 2
    assert "statistics" in capsys.readouterr().err
