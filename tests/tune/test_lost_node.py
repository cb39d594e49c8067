"""A node of the cluster is lost in the middle of a sweep: its trial goes on where it was, on the other one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.training.run_folder import RunFolder
from tests.actors.checks import assert_exact
from tests.faults.driver import Driver
from tests.faults.test_driver_killed import identity
from tests.tune.test_sweep import EVALUATE, FINETUNE, check_against_direct_play, rows, write

pytestmark = [pytest.mark.faults, pytest.mark.slow]

STEPS = 1500
"""Of an online run: enough that it has not ended when the node is lost."""
EPISODES = 300
"""Of an evaluation, likewise."""
SECONDS = 900.0
"""Longest sweep: 60 to 140 s were measured. The rest is room for a machine with much to do."""


def lose_a_node(tree: dict[str, Any], pretrained: RunFolder, folder: Path) -> dict[str, Any]:
    """Run a sweep of two trials on two nodes, one of which is lost; what was seen of it."""
    config, report = write(folder / "sweep.yaml", tree), folder / "report.json"
    words = [tree["kind"], config, str(pretrained.path), str(folder / "sweep"), str(report)]
    with Driver([sys.executable, "-m", "tests.tune.two_nodes", *words], folder / "output.txt") as driver:
        assert driver.wait(SECONDS) == 0, driver.output.read_text()[-3000:]
        driver.wait_until_gone(100.0)
    told: dict[str, Any] = json.loads(report.read_text())
    print(told)
    assert told["went_on"]
    assert told["exit_code"] == 0, (folder / "output.txt").read_text()[-3000:]
    assert "Traceback" not in (folder / "output.txt").read_text()
    return told


def test_an_online_run_goes_on(pretrained: RunFolder, tmp_path: Path) -> None:
    settings = {"online.evaluate_every": 500, "online.steps": STEPS, "online.checkpoint_updates": 20}
    tree = {**FINETUNE, "settings": settings, "report_steps": [500, STEPS], "max_concurrent": 2}
    told = lose_a_node(tree, pretrained, tmp_path)
    assert sorted(told["placed"].values()) == [0, 1]
    found = rows(tmp_path / "sweep")
    assert {row["status"] for row in found} == {"finished"}
    for name in ("00000", "00001"):
        run = RunFolder.open(tmp_path / "sweep/trials" / name)
        assert_exact(run, STEPS)
        before = [identity(fragment) for fragment in read_log(tmp_path / "kept" / name)]
        assert sum(fragment.num_steps for fragment in read_log(tmp_path / "kept" / name)) < STEPS
        assert [identity(fragment) for fragment in read_log(run.path / "replay")][: len(before)] == before
        reports = [row["report_step"] for row in found if row["trial"] == name]
        assert reports == [0, 500, 1000, STEPS]


def test_an_evaluation_is_played_again(pretrained: RunFolder, tmp_path: Path) -> None:
    tree = {key: value for key, value in EVALUATE.items() if key != "baseline"}
    tree |= {"seeds": [0, 1], "settings": {**EVALUATE["settings"], "evaluation.episodes": EPISODES}}
    told = lose_a_node(tree, pretrained, tmp_path)
    assert told["reported_before"] == 0
    found = rows(tmp_path / "sweep")
    assert {row["status"] for row in found} == {"finished"}
    check_against_direct_play(pretrained, found, EPISODES)
