"""Runs whose critics learnt no dynamics, and whose config.yaml has never heard of them, are used as they were."""

from __future__ import annotations

import dataclasses

import pytest

from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.training.assemble import build_models, load_models
from m3pc_ray.training.pretraining import Pretraining, take_component
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.store import write_store
from tests.online.factory import random_episodes, tiny_config


def without_dynamics(config: RunConfig) -> RunConfig:
    return dataclasses.replace(config, critic=dataclasses.replace(config.critic, dynamics=False))


@pytest.fixture
def old_run(tmp_path) -> RunFolder:
    trajectories = random_episodes()
    write_store(trajectories, tmp_path / "dataset")
    config = without_dynamics(tiny_config(str(tmp_path / "dataset")))
    run = RunFolder.create(tmp_path / "old", config, "pretrain")
    Pretraining(run, config, trajectories).train()
    lines = run.config_path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.split(":")[0].strip() not in ("dynamics", "states_from")]
    assert len(kept) == len(lines) - 2
    run.config_path.write_text("".join(kept))
    return run


def test_it_is_loaded_and_finetuned_as_what_it_is(old_run, tmp_path):
    assert old_run.config().critic.dynamics, "a file that lacks the setting reads as the default"
    models = load_models(old_run)
    assert models.critic.dynamics is None
    assert not models.config.critic.dynamics
    online = prepare(old_run, tmp_path / "online", finetune_config(old_run, {}))
    assert not online.config().critic.dynamics


def test_its_critic_goes_with_settings_that_want_none_only(old_run):
    trajectories = random_episodes()
    wanted = dataclasses.replace(
        old_run.config(), pretrain=dataclasses.replace(old_run.config().pretrain, components="btm")
    )
    with pytest.raises(UserError, match=r"other sizes than these settings \(.*critic\.dynamics"):
        take_component(old_run, wanted, build_models(wanted, trajectories))
    plain = without_dynamics(wanted)
    assert take_component(old_run, plain, build_models(plain, trajectories)).phase == "critic"
