"""Serial runs of every way to explore: same seed same bits, the log says which it was, interruption and resume."""

import itertools
import json

import pytest

from m3pc_ray.commands.finetune import resume_finetune
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.online.loop import SerialRun
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.metrics import read_metrics
from m3pc_ray.training.pretraining import Pretraining
from m3pc_ray.training.run_folder import RunFolder
from tests.online.factory import random_episodes, tiny_config

SHORT = {"online.steps": "50", "online.evaluate_every": "0", "online.evaluation_episodes": "1"}
DETERMINISTIC = {
    "pretrain.action_loss": "squared_error",
    "planner.action_noise": "fixed",
    "online.action_noise": "fixed",
}


def serial_run(source: RunFolder, path, settings: dict[str, str]) -> RunFolder:
    run = prepare(source, path, finetune_config(source, {**SHORT, **settings}))
    run.write_summary({"serial": True})
    return run


@pytest.fixture(scope="module")
def deterministic(pretrained, tmp_path_factory) -> RunFolder:
    """Pretrained with squared error, on the data of `pretrained`."""
    config = with_settings(tiny_config(pretrained.config().data.dataset), DETERMINISTIC)
    run = RunFolder.create(tmp_path_factory.mktemp("deterministic") / "run", config, "pretrain")
    Pretraining(run, config, random_episodes()).train()
    return run


def test_every_way_is_reproducible_and_none_is_another(pretrained, deterministic, tmp_path):
    logs = {}
    ways = [(pretrained, guide, noise) for guide, noise in itertools.product(("critic", "none"), ("model", "fixed"))]
    ways += [(deterministic, guide, "fixed") for guide in ("critic", "none")]
    for number, (source, guide, noise) in enumerate(ways):
        files = []
        again_too = (guide, noise) != ("critic", "model")  # tests/online/test_serial_run.py has that one
        for again in ("a", "b") if again_too else ("a",):
            settings = {"online.guide": guide, "online.action_noise": noise}
            run = serial_run(source, tmp_path / f"{number}{again}", settings)
            resume_finetune(run.path, quiet=True)
            assert run.summary()["status"] == "finished"
            files.append((run.path / "replay/log-000000.arrow").read_bytes())
            for fragment in read_log(run.path / "replay"):
                used = json.loads(fragment.planner)
                assert (used["guide"], used["action_noise"]) == (guide, noise)
                assert used["noise_std"] == run.config().planner.noise_std
                assert (used["noise_std"] is None) == (noise == "model")
        assert len(set(files)) == 1, (guide, noise)
        logs[number] = files[0]
    assert len(set(logs.values())) == len(ways)


def test_a_deterministic_model_goes_on_with_squared_error(deterministic, tmp_path):
    run = serial_run(deterministic, tmp_path / "run", {})
    resume_finetune(run.path, quiet=True)
    row = read_metrics(run, "online")[-1]
    assert row["btm/asked_actions_error"] > 0
    assert "btm/entropy" not in row
    before, after = (load_checkpoint(one)[0]["btm"] for one in (deterministic, run))
    assert (before["action_head.log_std.weight"] == after["action_head.log_std.weight"]).all()
    assert (before["action_head.mean.weight"] != after["action_head.mean.weight"]).any()
    assert "validation/entropy" not in {name for row in read_metrics(deterministic, "btm") for name in row}


class _StopAt(OnlineProgress):
    """Asks for a stop once there are 50 steps, as Ctrl-C would."""

    stop: StopRequest

    def update(self, steps, updates, values, force=False):
        super().update(steps, updates, values, force)
        self.stop.requested = self.stop.requested or steps >= 50


def test_an_interrupted_run_goes_on_with_the_same_noise(deterministic, tmp_path):
    run = serial_run(deterministic, tmp_path / "run", {"online.steps": "110", "online.guide": "none"})
    with _StopAt(run, run.config(), quiet=True) as progress:
        progress.stop = StopRequest()
        with pytest.raises(KeyboardInterrupt):
            SerialRun(run, progress, progress.stop).train()
    steps = run.summary()["environment_steps"]
    assert 50 <= steps < 110
    resume_finetune(run.path, quiet=True)
    summary = run.summary()
    assert (summary["status"], summary["environment_steps"], summary["btm_updates"]) == ("finished", 110, 11)
    fragments = list(read_log(run.path / "replay"))
    assert sum(fragment.num_steps for fragment in fragments) == 110
    assert len({fragment.planner for fragment in fragments}) == 1
    assert {fragment.key.incarnation for fragment in fragments} == {0, 1}


def test_a_spread_that_was_never_learnt_is_refused(deterministic):
    with pytest.raises(UserError, match="pretrain.action_loss: .* has learnt no spread"):
        finetune_config(deterministic, {"pretrain.action_loss": "nll"})
