"""Units of the softmax: what pretraining writes equals the spread of the planner's own utilities."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m3pc_ray.config import PlannerConfig
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.training.assemble import load_models
from m3pc_ray.training.pretraining import Pretraining
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.training.utility_units import DECISIONS, best_share, data_context, measure_utility_units
from tests.training.test_pretraining import make_config, make_trajectories


@pytest.mark.parametrize("power", [1.0, 0.25])
def test_pretraining_writes_the_units_into_the_runs_settings(tmp_path: Path, power: float) -> None:
    config, trajectories = make_config(utility_unit_power=power), make_trajectories()
    config = replace(config, planner=PlannerConfig(num_candidates=8))
    run = RunFolder.create(tmp_path / "run", config, "pretrain")
    Pretraining(run, config, trajectories).train()
    models = load_models(run)
    planner_settings = models.config.planner
    assert planner_settings.utility_unit_critic not in (0.0, 1.0)
    assert planner_settings.utility_unit_critic != planner_settings.utility_unit_return
    best = trajectories.select([np.argmax(trajectories.returns)])  # holds more than a tenth of the 138 steps
    context = data_context(models, best, planner_settings.context_length, config.seed)
    planner = ForwardPlanner(models.model, models.critic, planner_settings, 0.99, models.prompt)
    details = planner.plan(context, guide="critic", details=True).details
    assert details is not None
    spread = details.utilities.std(axis=1).mean()
    assert planner_settings.utility_unit_critic == pytest.approx(float(spread) ** power, rel=1e-4)


def test_without_the_setting_or_the_critic_the_units_stay(tmp_path: Path) -> None:
    trajectories = make_trajectories()
    config = make_config(utility_unit_power=0.0)
    run = RunFolder.create(tmp_path / "run", config, "pretrain")
    Pretraining(run, config, trajectories).train()
    assert run.config().planner == config.planner
    models = replace(load_models(run), critic_updates=0)
    assert set(measure_utility_units(models, trajectories, 0)) == {"return"}


def test_best_share_is_the_fewest_best_episodes() -> None:
    trajectories = make_trajectories()
    for share in (0.01, 0.3, 0.8, 1.0):
        best = best_share(trajectories, share)
        assert best.num_steps >= share * trajectories.num_steps
        assert best.num_steps - best.lengths[-1] < share * trajectories.num_steps
        assert sorted(best.returns) == sorted(trajectories.returns)[-best.num_episodes :]


def test_contexts_are_steps_of_one_episode(tmp_path: Path) -> None:
    trajectories = make_trajectories()
    config = make_config(utility_unit_power=0.0, components="btm")
    run = RunFolder.create(tmp_path / "run", config, "pretrain")
    Pretraining(run, config, trajectories).train()
    context = data_context(load_models(run), trajectories, 3, 0)
    assert len(context) == DECISIONS
    for index, position in enumerate(context.positions):
        current = context.observations[index, position]
        (row,) = np.flatnonzero((trajectories.observations == current).all(axis=1))
        assert trajectories.timesteps()[row] == context.timesteps[index]
        past = slice(row - position, row)
        np.testing.assert_array_equal(context.observations[index, :position], trajectories.observations[past])
        np.testing.assert_array_equal(context.actions[index, :position], trajectories.actions[past])
