"""A sound run passes; every damage that a disk can do to it is a row."""

import json
import shutil

import pytest

from m3pc_ray.config import RunConfig
from m3pc_ray.diagnosis.runs import check_checkpoint, check_replay_log, check_versions
from m3pc_ray.online.replay.replay_log import ReplayLog, log_files
from m3pc_ray.training.checkpoints import save_checkpoint
from m3pc_ray.training.run_folder import RunFolder
from tests.online.factory import make_fragment

STEPS = 5


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """Two checkpoints, the newer of which has learnt from four of five fragments in two log files."""
    import torch

    run = RunFolder.create(tmp_path / "run", RunConfig(), "finetune")
    for step, fragments in ((10, 2), (20, 4)):
        save_checkpoint(run, step, {"btm": {"weight": torch.ones(64)}}, {"online": {"fragments": fragments}})
    for episodes in ((0, 1, 2), (3, 4)):
        log = ReplayLog(run.path / "replay", 3, 2)
        list(log.restore())
        for episode in episodes:
            log.append([make_fragment(episode, 0, STEPS)])
        log.close()
    return run


def only(rows):
    (row,) = rows
    return row


def snapshot(run: RunFolder) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_a_sound_run_passes_and_is_not_touched(run):
    before = snapshot(run)
    checkpoint, log, versions = (only(check(run)) for check in (check_checkpoint, check_replay_log, check_versions))
    assert (checkpoint.status, log.status, versions.status) == ("ok", "ok", "ok")
    assert "step 20" in checkpoint.found
    assert "25 steps in 5 fragments, 2 files" in log.found
    assert snapshot(run) == before


def test_a_damaged_newest_checkpoint_is_a_warning_that_names_the_older_one(run):
    file = run.checkpoints_path / "step-00000020" / "btm.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    row = only(check_checkpoint(run))
    assert row.status == "warning"
    assert "btm.safetensors does not match its checksum; step 10 is whole" in row.found


def test_no_whole_checkpoint_fails(run):
    for step in (10, 20):
        file = run.checkpoints_path / f"step-{step:08d}" / "btm.safetensors"
        file.write_bytes(file.read_bytes()[:-5])
    assert only(check_checkpoint(run)).status == "failure"
    shutil.rmtree(run.checkpoints_path)
    row = only(check_checkpoint(run))
    assert (row.status, row.found) == ("failure", "the run has no checkpoint")


def test_half_a_record_at_the_end_is_a_warning(run):
    last = log_files(run.path / "replay")[-1]
    last.write_bytes(last.read_bytes()[:-40])
    before = snapshot(run)
    row = only(check_replay_log(run))
    assert row.status == "warning"
    assert "20 steps in 4 fragments" in row.found
    assert "half a record" in row.found
    assert snapshot(run) == before  # looking repairs nothing


def test_damage_in_an_earlier_file_fails(run):
    shutil.rmtree(run.checkpoints_path)  # so that nothing says how many fragments there must be
    first = log_files(run.path / "replay")[0]
    first.write_bytes(first.read_bytes()[:-40])
    row = only(check_replay_log(run))
    assert row.status == "failure"
    assert first.name in row.found


def test_fragments_that_were_learnt_from_and_are_gone_fail(run):
    log_files(run.path / "replay")[-1].unlink()
    row = only(check_replay_log(run))
    assert row.status == "failure"
    assert "3 fragments" in row.found
    assert row.advice.startswith("1 fragments are missing")


def test_other_versions_are_a_warning(run):
    summary = run.summary()
    summary["versions"]["mujoco"] = "2.1.0"
    run.summary_path.write_text(json.dumps(summary))
    row = only(check_versions(run))
    assert row.status == "warning"
    assert "mujoco 2.1.0 (here " in row.found


def test_a_run_without_versions_is_not_checked(run):
    run.write_summary({"versions": {}})
    assert only(check_versions(run)).status == "not checked"
