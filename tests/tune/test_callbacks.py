"""Where else reports go: what TensorBoard and Weights & Biases hold is what the trials reported."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from m3pc_ray.cli import main
from m3pc_ray.config import LoggingConfig, RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.yaml_text import read_yaml
from tests.tune.test_sweep import EVALUATE, rows, write
from tune.callbacks import check_logging, logging_callbacks
from tune.folder import SweepFolder
from tune.plan import Trial
from tune.reporting import TrialContext
from tune.sweep_file import read_sweep

ONE = {key: value for key, value in EVALUATE.items() if key != "baseline"}


def test_weights_and_biases_without_the_package_is_a_clear_error(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"logging\.wandb: online needs the wandb package: pip install 'm3pc-ray"):
        check_logging(LoggingConfig(wandb="online"), SweepFolder(tmp_path))


def test_files_need_a_path(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    folder = SweepFolder("bucket/sweep", SweepFolder(tmp_path).filesystem)
    check_logging(LoggingConfig(wandb="online"), folder)
    with pytest.raises(UserError, match=r"logging\.wandb: offline writes into the sweep's folder, and bucket/sweep"):
        check_logging(LoggingConfig(wandb="offline"), folder)


def test_a_trial_is_one_run_of_weights_and_biases_in_every_sitting(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "")  # so that it is what it was afterwards
    sweep, folder = (
        read_sweep({**ONE, "identity": "ab", "settings": {"logging.wandb": "offline"}}, "file"),
        SweepFolder(tmp_path),
    )
    trial = Trial("00007", {}, seed=5, run="/runs/a", environment="Hopper-v5", dataset="d")
    context = TrialContext(sweep, folder.address, (), [], keep_copies=False, trials={"00007": trial})
    started: list[dict] = []
    monkeypatch.setattr(
        "ray.air.integrations.wandb.WandbLoggerCallback._start_logging_actor",
        lambda _, trial, exclude, **options: started.append({**options, "exclude": exclude}),
    )
    for _sitting in range(2):
        logging_callbacks(context, RunConfig(), folder)[-1].log_trial_start(FakeTrial())
    first, second = started
    assert (first["id"], second["id"]) == ("ab-00007", "ab-00007")
    assert (first["dir"], first["mode"], first["resume"]) == (str(tmp_path), "offline", "allow")
    assert first["group"] == "sweep"
    assert first["config"] == {
        "trial": FakeTrial.config["trial"],
        "baseline": False,
        "seed": 5,
        "run": "/runs/a",
        "environment": "Hopper-v5",
        "dataset": "d",
    }


class FakeTrial:
    """What a callback asks of a trial when it starts."""

    trial_id = "ab12_00000"
    experiment_dir_name = "sitting"
    config: dict = {"trial": {"name": "00007", "settings": {}}}

    def __str__(self) -> str:
        return "00007"


def records(file: Path) -> Iterator[Any]:
    """What a file of Weights & Biases holds: seven bytes, then LevelDB's log format of Protocol Buffers messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if 2**15 - place % 2**15 < 7:  # no room for another header in this block
            place += 2**15 - place % 2**15
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)  # after a checksum
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole message, or the last part of one
            yield Record.FromString(parts)
            parts = b""


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_reports_are_in_the_files_of_both(pretrained: RunFolder, tmp_path: Path, monkeypatch) -> None:
    """And in the sweep's folder, wherever the command was given."""
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "")  # so that it is what it was afterwards
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tree = {**ONE, "settings": {**ONE["settings"], "logging.tensorboard": True}}
    words = ["sweep", "--config", write(tmp_path / "sweep.yaml", tree), "--run", str(pretrained.path)]
    assert main([*words, "--out", str(tmp_path / "sweep"), "--logging.wandb", "offline"]) == 0
    (row,) = rows(tmp_path / "sweep")
    assert not list((tmp_path / "here").iterdir())

    (trial,) = (tmp_path / "sweep/tune").glob("*/00000")
    events = EventAccumulator(str(trial))
    events.Reload()
    assert [event.value for event in events.Scalars("ray/tune/objective")] == pytest.approx([row["return"]])

    (file,) = (tmp_path / "sweep/wandb").glob("offline-run-*/*.wandb")
    found = list(records(file))
    (started,) = [record.run for record in found if record.HasField("run")]
    history = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.HasField("history")
    ]
    assert (started.run_group, started.display_name) == ("sweep", "00000")
    assert started.run_id == read_yaml(tmp_path / "sweep/sweep.yaml")["identity"] + "-00000"
    assert [values["return"] for values in history] == [row["return"]]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_no_event_files_where_tensorboard_is_off(pretrained: RunFolder, tmp_path: Path) -> None:
    config = write(tmp_path / "sweep.yaml", ONE)
    words = ["sweep", "--config", config, "--run", str(pretrained.path), "--out", str(tmp_path / "sweep")]
    assert main([*words, "--logging.tensorboard", "false"]) == 0
    assert len(list((tmp_path / "sweep/tune").rglob("result.json"))) == 1
    assert not list((tmp_path / "sweep").rglob("events.*"))
    assert not (tmp_path / "sweep/wandb").exists()
