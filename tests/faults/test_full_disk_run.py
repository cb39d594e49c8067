"""A whole run meets a full disk: one line, and `m3pc resume` finishes it exactly once there is room."""

import shutil

import pytest

from m3pc_ray.cli import main
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.training.checkpoints import load_checkpoint
from tests.online.factory import make_pretrained_run

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("small_disk", [16], indirect=True)
@pytest.mark.parametrize("room", [200_000, 25_000], ids=["for the log, not for a checkpoint", "for neither"])
def test_a_run_that_fills_the_disk(small_disk, room, tmp_path, capsys):
    pretrained = make_pretrained_run(tmp_path)
    run = prepare(pretrained, small_disk / "run", finetune_config(pretrained, {"online.evaluate_every": "0"}))
    run.write_summary({"serial": True})
    ballast = small_disk / "ballast"
    ballast.touch()
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - room))

    assert main(["resume", str(run.path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("m3pc: error: ")
    assert "disk is full" in error or "No space left on device" in error
    assert str(run.path) in error
    assert load_checkpoint(run)[1]["environment_steps"] == 0  # the first checkpoint is as good as it was
    before = [(fragment.key, fragment.offset) for fragment in read_log(run.path / "replay")]

    ballast.unlink()
    assert main(["resume", str(run.path)]) == 0
    summary = run.summary()
    assert summary["status"] == "finished"
    assert [summary[name] for name in ("environment_steps", "btm_updates", "critic_updates")] == [203, 20, 203]
    after = list(read_log(run.path / "replay"))
    assert [(fragment.key, fragment.offset) for fragment in after[: len(before)]] == before
    assert sum(fragment.num_steps for fragment in after) == 203
