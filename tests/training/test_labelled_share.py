"""Batches with a share of segments that hold their actions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from m3pc_ray.config import DataConfig
from m3pc_ray.model.masks import ACTIONS
from m3pc_ray.training.data import SegmentData
from m3pc_ray.training.pretraining import Pretraining
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.statistics import compute_statistics
from tests.training.test_pretraining import TIME_LIMIT, make_config, make_trajectories

T = 8


def make_data(known: np.ndarray | None) -> SegmentData:
    trajectories = replace(make_trajectories(), actions_known=known)
    statistics = compute_statistics(trajectories, "average", TIME_LIMIT)
    bounds = np.array([-1.0, -1.0], np.float32), np.array([1.0, 1.0], np.float32)
    return SegmentData(trajectories, statistics, "average", TIME_LIMIT, T, *bounds)


def whole(data: SegmentData, known: np.ndarray) -> np.ndarray:
    """(segments,) by looking at every step of every segment."""
    rows, valid = data.index.all_segments()
    return np.array([known[row[real]].all() for row, real in zip(rows, valid, strict=True)])


def test_the_share_is_met_and_both_parts_are_uniform() -> None:
    known = np.random.default_rng(3).random(make_trajectories().num_steps) < 0.9
    data = make_data(known)
    labelled = whole(data, known)
    assert 0 < labelled.sum() < len(labelled)
    starts = {int(start): index for index, start in enumerate(data.index.starts)}
    counts = np.zeros(len(labelled))
    drawn: list[np.ndarray] = []
    gather = data.gather
    data.gather = lambda rows, valid: drawn.append(rows) or gather(rows, valid)  # type: ignore[method-assign]
    rng = np.random.default_rng(0)
    for _ in range(200):
        _, exists = data.sample(rng, 50, 0.3)
        assert exists is not None
        chosen = np.array([starts[int(start)] for start in drawn.pop()[:, 0]])
        assert labelled[chosen].sum() == 15
        assert 0 < labelled[chosen[:25]].sum() < 15, "both halves of a batch, each with a mask of its own, have some"
        np.add.at(counts, chosen, 1)
    for part, total in ((labelled, 200 * 15), (~labelled, 200 * 35)):
        expected = total / part.sum()
        assert np.abs(counts[part] - expected).max() < 6 * np.sqrt(expected)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_one_kind_alone(share: float) -> None:
    known = np.repeat([True, False] * 4, make_trajectories().lengths)
    _, exists = make_data(known).sample(np.random.default_rng(0), 40, share)
    assert exists is not None
    assert bool(exists[:, ACTIONS, 0].all() if share else (~exists[:, ACTIONS]).all())


@pytest.mark.parametrize("known", [None, "none"])
def test_where_there_is_one_kind_the_share_changes_nothing(known: str | None) -> None:
    flags = None if known is None else np.zeros(make_trajectories().num_steps, bool)
    data = make_data(flags)
    for share in (None, 0.5):
        tokens, _ = data.sample(np.random.default_rng(5), 10, share)
        plain, _ = data.gather(*data.index.sample(np.random.default_rng(5), 10))
        assert torch.equal(tokens["states"], plain["states"])


def test_pretraining_draws_its_batches_so(tmp_path: Path) -> None:
    config = make_config(components="btm")
    data = DataConfig(validation_fraction=0.25, labelled_fraction=0.3, labelled_share=0.5)
    config = replace(config, data=replace(data, dataset=config.data.dataset))
    pretraining = Pretraining(RunFolder.create(tmp_path / "run", config, "pretrain"), config, make_trajectories())
    shares = []
    update = pretraining.btm_trainer.update

    def watched(tokens, valid, factor):  # type: ignore[no-untyped-def]
        shares.append(float(valid[:, ACTIONS, 0].float().mean()))
        return update(tokens, valid, factor)

    pretraining.btm_trainer.update = watched  # type: ignore[method-assign]
    pretraining.train()
    assert set(shares) == {0.5}
