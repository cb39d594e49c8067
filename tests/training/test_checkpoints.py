"""Checkpoints are complete or absent: crashes at every point, damage of every file, a full disk."""

import errno
import json
import logging
import os
import pickle
import shutil

import pytest
import torch

from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.training.checkpoints import list_checkpoints, load_checkpoint, save_checkpoint
from m3pc_ray.training.run_folder import RunFolder


class Crash(BaseException):
    """The process dies here: no handler of ordinary errors runs."""


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", RunConfig(), "pretrain")


def save(run: RunFolder, step: int, keep: int = 2) -> None:
    tensors = {"btm": {"weight": torch.full((3, 2), float(step))}, "critic": {"bias": torch.tensor([step])}}
    save_checkpoint(run, step, tensors, {"step": step}, keep=keep)


def loaded_step(run: RunFolder, step: int | None = None) -> int:
    """Step of what is loaded, after checking that all of it belongs together."""
    tensors, state = load_checkpoint(run, step)
    found = state["step"]
    assert torch.equal(tensors["btm"]["weight"], torch.full((3, 2), float(found)))
    assert torch.equal(tensors["critic"]["bias"], torch.tensor([found]))
    return found


def test_everything_comes_back_exactly(run):
    tensors = {
        "btm": {
            "float": torch.randn(3, 4),
            "scalar": torch.tensor(0.1),
            "integer": torch.tensor([1, -(2**62)]),
            "half": torch.randn(5).to(torch.bfloat16),
            "boolean": torch.tensor([True, False]),
            "empty": torch.zeros(0, 3),
            "view": torch.arange(12.0).reshape(3, 4).t()[1:],
        },
        "critic_optimizer": {},
    }
    state = {"seconds": 0.1 + 0.2, "big": 2**127 + 1, "nested": {"list": [1, None, "ü"]}, "infinite": float("inf")}
    save_checkpoint(run, 12, tensors, state)
    read, read_state = load_checkpoint(run)
    assert read_state == state
    assert set(read) == {"btm", "critic_optimizer"}
    assert read["critic_optimizer"] == {}
    for name, value in tensors["btm"].items():
        assert read["btm"][name].dtype == value.dtype
        assert torch.equal(read["btm"][name], value), name


def test_tensors_that_share_memory_are_stored_apart(run):
    shared = torch.arange(6.0)
    save_checkpoint(run, 1, {"btm": {"a": shared, "b": shared[2:], "c": shared.view(2, 3)}}, {})
    read, _ = load_checkpoint(run)
    assert torch.equal(read["btm"]["b"], shared[2:])
    assert torch.equal(read["btm"]["c"], shared.view(2, 3))


def test_the_newest_are_kept_and_loaded(run):
    for step in (10, 20, 5, 30):
        save(run, step)
    assert list_checkpoints(run) == [20, 30]
    assert loaded_step(run) == 30
    assert loaded_step(run, 20) == 20
    assert sorted(entry.name for entry in run.checkpoints_path.iterdir()) == ["step-00000020", "step-00000030"]


def test_steps_sort_as_numbers(run):
    save(run, 99_999_999)
    save(run, 100_000_000)
    assert list_checkpoints(run) == [99_999_999, 100_000_000]
    assert loaded_step(run) == 100_000_000


def test_missing_checkpoints_are_named(run):
    with pytest.raises(UserError, match="no complete checkpoint"):
        load_checkpoint(run)
    save(run, 10)
    with pytest.raises(UserError, match="no checkpoint of step 11; there are: 10"):
        load_checkpoint(run, 11)


FILES = ["btm.safetensors", "critic.safetensors", "state.json", "manifest.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "empty"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(run, name, damage, caplog):
    save(run, 10)
    save(run, 20)
    path = run.checkpoints_path / "step-00000020" / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = len(content) // 2
        changed = content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :]
        path.write_bytes({"truncated": content[:-1], "changed": changed, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert loaded_step(run) == 10
    assert "step-00000020: damaged checkpoint passed over" in caplog.text
    with pytest.raises(UserError, match=r"step-00000020: damaged checkpoint: "):
        load_checkpoint(run, 20)
    save(run, 30)
    assert 10 in list_checkpoints(run) or 20 in list_checkpoints(run)
    assert loaded_step(run) == 30


def test_a_manifest_cannot_point_outside(run):
    save(run, 10)
    path = run.checkpoints_path / "step-00000010" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../../summary.json"] = manifest["files"].pop("state.json")
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="not a plain file name"):
        load_checkpoint(run, 10)


def system_calls(run: RunFolder, step: int, monkeypatch, fail_at: int, error: BaseException) -> int:
    """Saves while the fail_at-th fsync or rename raises `error`; returns how many of these calls there were."""
    count = 0

    def counted(call):
        def wrapper(*arguments, **options):
            nonlocal count
            count += 1
            if count == fail_at:
                raise error
            return call(*arguments, **options)

        return wrapper

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", counted(os.fsync))
        patch.setattr(os, "replace", counted(os.replace))
        save(run, step)
    return count


@pytest.mark.parametrize("new_step", [20, 10], ids=["a new step", "the same step again"])
def test_a_crash_at_any_point_leaves_a_complete_checkpoint(run, new_step, monkeypatch):
    save(run, 10)
    calls = system_calls(run, new_step, monkeypatch, fail_at=0, error=Crash())
    assert calls >= 6  # four files, two folders, a rename
    for fail_at in range(1, calls + 1):
        shutil.rmtree(run.checkpoints_path)
        save(run, 10)
        with pytest.raises(Crash):
            system_calls(run, new_step, monkeypatch, fail_at, Crash())
        assert loaded_step(run) in (10, new_step)
        save(run, 30)
        assert loaded_step(run) == 30
        assert list(run.checkpoints_path.glob(".*")) == []  # what the crash left is cleared away


@pytest.mark.parametrize("fail_at", [1, 3, 5])
def test_a_full_disk_is_a_clear_error_and_harms_nothing(run, fail_at, monkeypatch):
    save(run, 10)
    with pytest.raises(UserError, match=r"step-00000020: the disk is full.*earlier ones are intact.*m3pc resume"):
        system_calls(run, 20, monkeypatch, fail_at, OSError(errno.ENOSPC, "No space left on device"))
    assert [entry.name for entry in run.checkpoints_path.iterdir()] == ["step-00000010"]
    assert loaded_step(run) == 10


def test_other_write_errors_are_named(run, monkeypatch):
    with pytest.raises(UserError, match="cannot write the checkpoint: Input/output error"):
        system_calls(run, 20, monkeypatch, 1, OSError(errno.EIO, "Input/output error"))


def test_loading_runs_no_code(run, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a checkpoint was unpickled")

    save(run, 10)
    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    assert loaded_step(run) == 10
    assert {entry.suffix for entry in (run.checkpoints_path / "step-00000010").iterdir()} == {".json", ".safetensors"}
