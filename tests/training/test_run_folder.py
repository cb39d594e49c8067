"""Runs on disk: what is made, what is refused, and that nothing of anyone else's is ever removed."""

import json
import os
import subprocess
import sys

import pytest

from m3pc_ray import __version__
from m3pc_ray.config import ModelConfig, RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.training.run_folder import RunFolder, package_versions, write_atomically

CONFIG = RunConfig(seed=5, model=ModelConfig(width=64))


def test_a_new_run_holds_its_configuration_and_a_summary(tmp_path):
    RunFolder.create(tmp_path / "a" / "run", CONFIG, "pretrain")
    run = RunFolder.open(tmp_path / "a" / "run")
    assert run.config() == CONFIG
    assert run.kind() == "pretrain"
    summary = run.summary()
    assert summary["status"] == "running"
    assert (summary["environment_steps"], summary["btm_updates"], summary["critic_updates"]) == (0, 0, 0)
    assert summary["versions"] == package_versions()
    assert sorted(entry.name for entry in run.path.iterdir()) == ["checkpoints", "config.yaml", "summary.json"]


def test_a_job_s_copy_of_the_working_folder_is_no_place_for_runs(tmp_path, monkeypatch):
    copy = tmp_path / "session_1" / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(UserError, match="runs/x: lies in the copy .* name an absolute path"):
        RunFolder.create("runs/x", CONFIG, "finetune")
    assert list(copy.iterdir()) == []
    with pytest.raises(UserError, match="runs/x: no such run folder; a job sees a copy"):
        RunFolder.open("runs/x")
    RunFolder.create(tmp_path / "runs" / "x", CONFIG, "finetune")


def test_an_existing_run_is_not_overwritten_unasked(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG, "pretrain")
    (run.checkpoints_path / "precious").write_text("x")
    with pytest.raises(UserError, match=r"m3pc resume .*run.* or give --overwrite"):
        RunFolder.create(run.path, RunConfig(), "finetune")
    assert (run.checkpoints_path / "precious").exists()
    assert run.config() == CONFIG


def test_overwriting_starts_from_nothing(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG, "pretrain")
    run.write_summary({"scores": {"none": 3.0}})
    run.metrics_path.write_text("{}\n")
    again = RunFolder.create(run.path, RunConfig(), "finetune", overwrite=True)
    assert again.kind() == "finetune"
    assert again.summary()["scores"] == {}
    assert again.config() == RunConfig()
    assert not again.metrics_path.exists()


def test_a_folder_that_is_no_run_is_never_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="not empty and not a run"):
            RunFolder.create(tmp_path, CONFIG, "pretrain", overwrite=overwrite)
    (tmp_path / "summary.json").write_text('{"title": "a summary of something else"}')
    with pytest.raises(UserError, match="not empty and not a run"):
        RunFolder.create(tmp_path, CONFIG, "pretrain", overwrite=True)
    with pytest.raises(UserError, match="not empty and not a run"):
        RunFolder.create(tmp_path / "thesis.txt", CONFIG, "pretrain", overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years"


def test_an_empty_folder_may_become_a_run(tmp_path):
    assert RunFolder.create(tmp_path, CONFIG, "pretrain").config() == CONFIG


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.*cannot create the run"):
        RunFolder.create(tmp_path / "file" / "run", CONFIG, "pretrain")


def test_opening_what_is_no_run(tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        RunFolder.open(tmp_path / "none")
    with pytest.raises(UserError, match="not a run of m3pc"):
        RunFolder.open(tmp_path)


def test_damaged_files_are_named(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG, "pretrain")
    run.config_path.write_text("model: {width: 1")
    with pytest.raises(UserError, match=r"config\.yaml.*not valid YAML"):
        run.config()
    run.config_path.unlink()
    with pytest.raises(UserError, match=r"config\.yaml: missing"):
        run.config()
    run.summary_path.write_text("{")
    with pytest.raises(UserError, match=r"summary\.json: cannot be read"):
        run.summary()


def test_the_summary_is_merged(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG, "pretrain")
    run.write_summary({"scores": {"none": 1.5}, "btm_updates": 7})
    merged = run.write_summary({"scores": {"critic": 2.5}, "status": "finished"})
    assert merged == run.summary() == json.loads(run.summary_path.read_text())
    assert merged["scores"] == {"none": 1.5, "critic": 2.5}
    assert (merged["btm_updates"], merged["status"]) == (7, "finished")
    with pytest.raises(ValueError, match="status must be one of"):
        run.write_summary({"status": "done"})


def test_a_failed_write_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_atomically(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def test_versions_name_what_results_depend_on():
    versions = package_versions()
    assert versions["m3pc_ray"] == __version__
    assert {"python", "torch", "ray", "gymnasium", "mujoco", "numpy", "pyarrow"} <= set(versions)


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG, "pretrain")
    hold = "import sys; from m3pc_ray.training.run_folder import RunFolder\n"
    hold += "with RunFolder(sys.argv[1]).exclusive(): print('held', flush=True); sys.stdin.read()"
    holder = [sys.executable, "-c", hold, str(run.path)]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is training this run"), run.exclusive():
            raise AssertionError("two hold the lock")
        process.kill()  # no word of farewell
    with run.exclusive():
        pass
