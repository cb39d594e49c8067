"""Checkpoints after faults of the disk and from strangers: the one before, or one clear line; never code."""

import hashlib
import json
import logging
import pickle
from pathlib import Path

import pytest
import torch

from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.training.checkpoints import list_checkpoints, load_checkpoint, save_checkpoint
from m3pc_ray.training.run_folder import RunFolder

pytestmark = pytest.mark.faults


def save(run: RunFolder, step: int) -> Path:
    tensors = {"btm": {"weight": torch.full((3, 2), float(step))}}
    return save_checkpoint(run, step, tensors, {"step": step})


@pytest.fixture
def run(tmp_path) -> RunFolder:
    run = RunFolder.create(tmp_path / "run", RunConfig(), "pretrain")
    save(run, 10)
    save(run, 20)
    return run


def newest(run: RunFolder) -> Path:
    return run.checkpoints_path / "step-00000020"


def sign(folder: Path) -> None:
    """Make the manifest fit the files, as somebody would who means harm."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in folder.iterdir()
        if path.name != "manifest.json"
    }
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "step": 20, "files": files}))


@pytest.mark.parametrize("name", ["btm.safetensors", "state.json", "manifest.json"])
def test_a_file_cut_at_any_length_costs_one_checkpoint(run, name, caplog):
    path = newest(run) / name
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert load_checkpoint(run)[1] == {"step": 10}, length
    assert "step-00000020: damaged checkpoint passed over" in caplog.text
    path.write_bytes(whole)
    assert load_checkpoint(run)[1] == {"step": 20}


@pytest.mark.parametrize("name", ["btm.safetensors", "state.json"])
def test_any_flipped_byte_costs_one_checkpoint(run, name):
    path = newest(run) / name
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x04]) + whole[place + 1 :])
        assert load_checkpoint(run)[1] == {"step": 10}, place


def test_a_flipped_byte_of_the_manifest_never_gives_other_contents(run):
    path = newest(run) / "manifest.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x04]) + whole[place + 1 :])
        assert load_checkpoint(run)[1]["step"] in (10, 20), place  # its "step" and its white space matter to nobody


def test_where_none_is_left_one_line_says_so(run, caplog):
    for folder in run.checkpoints_path.iterdir():
        (folder / "manifest.json").unlink()
    with caplog.at_level(logging.WARNING), pytest.raises(UserError, match="the run has no complete checkpoint"):
        load_checkpoint(run)
    assert caplog.text.count("manifest.json is missing") == 2
    assert list_checkpoints(run) == []


class _Trap:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_calls_itself_safetensors_is_not_run(run, tmp_path, protocol):
    trap = tmp_path / "sprung"
    (newest(run) / "btm.safetensors").write_bytes(pickle.dumps(_Trap(trap), protocol))
    sign(newest(run))
    with pytest.raises(UserError, match=r"step-00000020: cannot read the checkpoint"):
        load_checkpoint(run)
    assert not trap.exists()


def test_a_pytorch_file_that_calls_itself_safetensors_is_not_run(run, tmp_path):
    trap = tmp_path / "sprung"
    torch.save({"weight": _Trap(trap)}, newest(run) / "btm.safetensors")
    sign(newest(run))
    with pytest.raises(UserError, match=r"step-00000020: cannot read the checkpoint"):
        load_checkpoint(run)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["../step-00000010/state.json", "../../summary.json", "/etc/passwd", "..", "", "a/b"])
def test_a_manifest_cannot_name_what_lies_outside(run, name):
    path = newest(run) / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][name] = manifest["files"]["state.json"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="step-00000020: damaged checkpoint: "):
        load_checkpoint(run, 20)
    assert load_checkpoint(run)[1] == {"step": 10}


def test_a_link_to_somewhere_else_is_not_followed(run, tmp_path):
    path = newest(run) / "state.json"
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UserError, match=r"state\.json is a link"):
        load_checkpoint(run, 20)


def test_a_file_that_the_manifest_does_not_name_is_not_read(run):
    (newest(run) / "extra.safetensors").write_bytes(b"anything")
    assert set(load_checkpoint(run)[0]) == {"btm"}


HARMFUL = {
    "nested": "[" * 200_000,
    "nested mappings": '{"a":' * 200_000,
    "long number": '{"step": ' + "9" * 100_000 + "}",
    "not UTF-8": b"\xff\xfe{}",
    "a list": "[]",
    "null": "null",
}


@pytest.mark.parametrize("content", HARMFUL.values(), ids=HARMFUL)
@pytest.mark.parametrize("name", ["state.json", "manifest.json"])
def test_harmful_json_is_one_clear_line(run, name, content):
    path = newest(run) / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if name == "state.json":
        sign(newest(run))
    with pytest.raises(UserError, match=r"step-00000020: (cannot read|damaged)"):
        load_checkpoint(run, 20)


@pytest.mark.parametrize("size", ["1e400", "-1", "null", '"7"', "18446744073709551616", "9" * 5000, "[]"])
def test_sizes_that_are_none_are_one_clear_line(run, size):
    path = newest(run) / "manifest.json"
    path.write_text(f'{{"format": 1, "files": {{"state.json": {{"bytes": {size}, "sha256": "{"0" * 64}"}}}}}}')
    with pytest.raises(UserError, match="step-00000020: damaged checkpoint: "):
        load_checkpoint(run, 20)


def test_json_larger_than_any_run_writes_is_not_parsed(run):
    with (newest(run) / "state.json").open("wb") as file:
        file.truncate(2**26 + 1)  # sparse
    sign(newest(run))
    with pytest.raises(UserError, match=r"state\.json: larger than 67108864 bytes"):
        load_checkpoint(run, 20)


def test_a_safetensors_header_that_promises_too_much_is_one_clear_line(run):
    header = b'{"weight":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}'
    for content in (len(header).to_bytes(8, "little") + header + bytes(8), (2**63).to_bytes(8, "little") + b"{}"):
        (newest(run) / "btm.safetensors").write_bytes(content)
        sign(newest(run))
        with pytest.raises(UserError, match=r"step-00000020: cannot read the checkpoint"):
            load_checkpoint(run, 20)
