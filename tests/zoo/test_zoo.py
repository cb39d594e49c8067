"""Runs are pushed and pulled: complete or refused, with checksums, to folders and what else pyarrow or fsspec reach."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import fs as filesystems

from m3pc_ray.agent import Agent
from m3pc_ray.cli import main
from m3pc_ray.errors import UserError
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.zoo.places import Place, open_place
from m3pc_ray.zoo.transfer import CARD, MANIFEST, pull, push, read_manifest
from tests.tiny_run import make_tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_tiny_run(tmp_path_factory.mktemp("zoo") / "run")


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("uri", [False, True])
def test_what_was_pulled_is_what_was_pushed(run, tmp_path, uri):
    text = f"file://{tmp_path}/zoo/hopper" if uri else str(tmp_path / "zoo" / "hopper")
    moved = push(run, open_place(text))
    there = tmp_path / "zoo" / "hopper"
    assert moved.files == len(files_of(there)) - 1  # the manifest beside them
    for name, entry in read_manifest(open_place(text)).items():
        content = (there / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    back = tmp_path / "back"
    assert pull(open_place(text), back).bytes == moved.bytes
    observations = np.random.default_rng(1).normal(size=(3, 11)).astype(np.float32)
    ours, theirs = (Agent.load(path, planner="none").predict(observations, True) for path in (run.path, back))
    np.testing.assert_array_equal(ours, theirs)


def test_only_what_differs_is_sent_and_other_weights_are_kept(run, tmp_path):
    place = open_place(str(tmp_path / "zoo"))
    push(run, place)
    assert push(run, place).files == 0
    again = RunFolder(tmp_path / "again")
    shutil.copytree(run.path, again.path)
    again.write_summary({"note": "other words"})
    assert push(again, place).files == 1
    other = make_tiny_run(tmp_path / "other", seed=7)
    before = read_manifest(place)
    with pytest.raises(UserError, match="other weights are there"):
        push(other, place)
    assert read_manifest(place) == before
    push(other, place, force=True)
    assert files_of(tmp_path / "zoo") == {*read_manifest(place), MANIFEST}


def test_an_interrupted_push_is_none(run, tmp_path):
    def stop(name, _bytes):
        if name.endswith("btm.safetensors"):
            raise KeyboardInterrupt

    place = open_place(str(tmp_path / "zoo"))
    push(run, place)
    other = make_tiny_run(tmp_path / "other", seed=7)
    with pytest.raises(KeyboardInterrupt):
        push(other, place, force=True, progress=stop)
    with pytest.raises(UserError, match="no run was pushed there"):
        pull(place, tmp_path / "back")
    push(other, place)
    pull(place, tmp_path / "back")


def test_an_interrupted_pull_goes_on(run, tmp_path):
    fetched = []

    def stop(name, _bytes):
        fetched.append(name)
        if len(fetched) == 4:
            raise KeyboardInterrupt

    place, back = open_place(str(tmp_path / "zoo")), tmp_path / "back"
    push(run, place)
    with pytest.raises(KeyboardInterrupt):
        pull(place, back, progress=stop)
    assert not back.exists()
    moved = pull(place, back)
    assert moved.kept == 4
    assert files_of(back) == set(read_manifest(place))
    with pytest.raises(UserError, match="is there already"):
        pull(place, back)
    pull(place, back, force=True)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("years of work")
    with pytest.raises(UserError, match="not a run"):
        pull(place, tmp_path / "thesis", force=True)
    assert (tmp_path / "thesis" / "chapter").is_file()


def test_a_file_that_changed_is_refused(run, tmp_path):
    place = open_place(str(tmp_path / "zoo"))
    push(run, place)
    weights = next((tmp_path / "zoo").rglob("btm.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match=r"btm\.safetensors does not match its checksum"):
        pull(place, tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "checkpoints/step-00000001/../../x.json", "run.py"])
def test_a_manifest_cannot_name_what_is_no_part_of_a_run(tmp_path, name):
    manifest = {"format": 1, "files": {name: {"bytes": 1, "sha256": ""}}}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="which no run has"):
        pull(open_place(str(tmp_path)), tmp_path / "back")


def test_a_hugging_face_repository_is_one_more_place(run, tmp_path, monkeypatch):
    """The hub's client is replaced where we call it; its file system by one of fsspec's in memory."""
    made = []
    client = SimpleNamespace(
        create_repo=lambda name, **keywords: made.append((name, keywords)), HfFileSystem=MemoryFileSystem
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    push(run, open_place("hf://someone/hopper", create=True))
    assert made == [("someone/hopper", {"repo_type": "model", "exist_ok": True})]
    pull(open_place("hf://someone/hopper"), tmp_path / "back")
    assert len(made) == 1
    assert RunFolder.open(tmp_path / "back").config() == run.config()


def test_an_object_store_without_folders(run, tmp_path):
    place = Place("memory", filesystems.SubTreeFileSystem(str(tmp_path), filesystems.LocalFileSystem()), "")
    push(run, place)
    assert (tmp_path / MANIFEST).is_file()


def test_the_card_says_what_the_run_is_and_earns(run, tmp_path):
    row = {"planner": "critic", "score_mean": 81.25, "score_sem": 0.5, "return_mean": 2600.0, "return_sem": 9.0}
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    place = open_place(str(tmp_path / "zoo"))
    push(copy, place)
    card = (tmp_path / "zoo" / CARD).read_text()
    assert "Hopper-v4" in card
    assert "Not evaluated" in card
    (copy.path / "evaluation.json").write_text(json.dumps({"rows": [{**row, "episodes": 20}]}))
    push(copy, place)
    assert "| M³PC-Q | 81.2 ± 0.5 | 2600.0 ± 9.0 | 20 |" in (tmp_path / "zoo" / CARD).read_text()
    (copy.path / "evaluation.json").write_text('{"rows": [{"planner": "none"}]}')
    with pytest.raises(UserError, match=r"evaluation\.json"):
        push(copy, place)


def test_the_commands(run, tmp_path, capsys, monkeypatch):
    assert main(["push", str(run.path), str(tmp_path / "zoo")]) == 0
    assert main(["pull", str(tmp_path / "zoo"), str(tmp_path / "back")]) == 0
    assert "fetched" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for words, named in (
        (["push", str(tmp_path / "nothing"), "x"], "no such run folder"),
        (["push", str(run.path), "hf://someone"], "hf://owner/name"),
        (["push", str(run.path), "hf://someone/hopper"], r".[hub]"),
        (["push", str(run.path), "nowhere://x"], "nowhere://x"),
        (["pull", str(tmp_path / "empty"), str(tmp_path / "b")], "no run was pushed there"),
    ):
        assert main(words) == 2
        assert named in capsys.readouterr().err
