"""Metrics: rows that survive crashes, and a resumed run that repeats none."""

import json
import sys

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from m3pc_ray.config import LoggingConfig, RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.training.metrics import MetricLogger, read_metrics
from m3pc_ray.training.run_folder import RunFolder

FILES_ONLY = LoggingConfig(tensorboard=False)


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", RunConfig(), "pretrain")


def test_rows_hold_time_stream_step_and_values(run):
    MetricLogger(run, FILES_ONLY, "btm").log(
        7, {"loss": torch.tensor(0.5), "error": np.float32(2.0), "bad": float("nan"), "note": "text", "flag": True}
    )
    (row,) = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert isinstance(row.pop("time"), float)
    assert row == {
        "stream": "btm",
        "step": 7,
        "loss": 0.5,
        "error": 2.0,
        "bad": None,
        "note": "text",
        "flag": True,
    }
    assert not (run.path / "tensorboard").exists()


def test_columns_of_every_row_are_reserved(run):
    with pytest.raises(ValueError, match="step is a column of every row"):
        MetricLogger(run, FILES_ONLY, "btm").log(1, {"step": 3})


def test_streams_share_a_file_and_read_apart(run):
    btm, critic = (MetricLogger(run, FILES_ONLY, stream) for stream in ("btm", "critic"))
    btm.log(1, {"loss": 1.0})
    critic.log(50, {"loss": 2.0})
    btm.log(2, {"loss": 3.0})
    assert [row["loss"] for row in read_metrics(run)] == [1.0, 2.0, 3.0]
    assert [row["loss"] for row in read_metrics(run.path, "btm")] == [1.0, 3.0]


def test_a_resumed_run_repeats_no_row(run):
    btm, critic = (MetricLogger(run, FILES_ONLY, stream) for stream in ("btm", "critic"))
    for step in (10, 20, 30, 40):
        btm.log(step, {"loss": step})
        critic.log(step, {"loss": step})
    resumed = MetricLogger(run, FILES_ONLY, "btm")
    assert resumed.truncate_after(20) == 2
    assert resumed.truncate_after(20) == 0
    resumed.log(30, {"loss": -30})
    assert [(row["step"], row["loss"]) for row in read_metrics(run, "btm")] == [(10, 10), (20, 20), (30, -30)]
    assert [row["step"] for row in read_metrics(run, "critic")] == [10, 20, 30, 40]
    assert resumed.truncate_after(0, "critic") == 4
    critic.log(1, {"loss": 1})  # a logger opened before goes on in the new file
    assert [row["step"] for row in read_metrics(run, "critic")] == [1]


def test_a_half_written_row_harms_no_other(run):
    logger = MetricLogger(run, FILES_ONLY, "btm")
    logger.log(1, {"loss": 1.0})
    logger.log(2, {"loss": 2.0})
    content = run.metrics_path.read_bytes()
    run.metrics_path.write_bytes(content[:-9])  # the crash
    assert [row["step"] for row in read_metrics(run)] == [1]
    MetricLogger(run, FILES_ONLY, "btm").log(2, {"loss": 2.5})
    assert [(row["step"], row["loss"]) for row in read_metrics(run)] == [(1, 1.0), (2, 2.5)]


def test_tensorboard_gets_the_numbers_and_forgets_what_was_undone(run):
    logger = MetricLogger(run, LoggingConfig(), "btm")
    for step in (1, 2, 3):
        logger.log(step, {"loss": float(step), "note": "text"})
    logger.close()
    resumed = MetricLogger(run, LoggingConfig(), "btm")
    resumed.truncate_after(1)
    resumed.log(2, {"loss": 20.0})
    resumed.close()
    events = EventAccumulator(str(run.path / "tensorboard" / "btm"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 20.0)]


def test_a_place_that_cannot_be_written_is_named(run):
    logger = MetricLogger(run, FILES_ONLY, "btm")
    run.metrics_path.mkdir()
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot write metrics"):
        logger.log(1, {"loss": 1.0})


def test_weights_and_biases_without_the_package_is_a_clear_error(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"logging\.wandb: offline needs the wandb package: pip install 'm3pc-ray"):
        MetricLogger(run, LoggingConfig(wandb="offline"), "btm")


def test_weights_and_biases_offline_needs_no_account(run, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    logging = LoggingConfig(tensorboard=False, wandb="offline")
    btm, critic = (MetricLogger(run, logging, stream) for stream in ("btm", "critic"))
    try:
        btm.log(1, {"loss": 1.0})
        critic.log(9, {"loss": 2.0})
        assert wandb.run.summary["btm/loss"] == 1.0
        assert wandb.run.summary["critic/step"] == 9
        assert wandb.run.id == (run.path / "wandb_id").read_text()
    finally:
        wandb.finish()
    assert len(list((run.path / "wandb").glob("offline-run-*/*.wandb"))) == 1
