"""Training that diverges, and actions that are no numbers, stop a run before anything is published or stored."""

import numpy as np
import pytest
import safetensors.torch
import torch

from m3pc_ray.errors import UserError
from m3pc_ray.online.loop import SerialRun
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.training.checkpoints import list_checkpoints, load_checkpoint
from m3pc_ray.training.interrupt import StopRequest


@pytest.fixture
def serial(pretrained, tmp_path):
    run = prepare(pretrained, tmp_path / "run", finetune_config(pretrained, {"online.evaluate_every": "0"}))
    with OnlineProgress(run, run.config(), quiet=True) as progress:
        yield SerialRun(run, progress, StopRequest())


@pytest.mark.parametrize("kind", ["btm", "critic"])
def test_a_loss_that_is_not_finite_keeps_its_batches_and_the_last_checkpoint(serial, kind):
    serial.round()
    updates = dict(serial.learner.updates)
    storage = serial.learner.storage
    column = storage.column("observations" if kind == "btm" else "next_observations")
    column[:] = torch.inf  # as a simulator that explodes would leave it
    with pytest.raises(UserError, match=r"not finite.*last checkpoint is good.*diverged") as raised:
        serial.train()
    (path,) = (serial.run.path / "diverged").iterdir()
    assert str(path) in str(raised.value)
    batches = safetensors.torch.load_file(path)
    field = "btm.0.states" if kind == "btm" else "critic.0.next_observations"
    assert not torch.isfinite(batches[field]).all()
    assert serial.learner.updates != updates  # it was updates that failed, ...
    for values in serial.service.planner.model.state_dict().values():  # ... and nothing of them was published, ...
        assert torch.isfinite(values).all()
    assert list_checkpoints(serial.run) == [0]
    with pytest.raises(UserError, match="not finite"):
        serial.learner.checkpoint(serial.run)  # ... or saved
    load_checkpoint(serial.run, 0)


def test_a_weight_that_is_not_finite_is_not_published(serial):
    serial.round()
    with torch.no_grad():
        next(serial.learner.models.critic.v.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="a weight is not finite"):
        serial.learner.publish()


def test_an_action_that_is_not_finite_is_not_stepped(serial):
    collector = serial.collectors[0]
    collector.tickets = 3
    context = collector.request()
    with pytest.raises(UserError, match="planned action is not finite"):
        collector.act(np.full((len(context), 1), np.nan, np.float32), 7)
    assert collector.steps == 0
    collector.flush()
    assert collector.take_fragments() == []
    assert list(read_log(serial.run.path / "replay")) == []
