"""RLlib's algorithms as methods; RLlib runs in processes of its own, being heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from m3pc_ray.comparison import child
from m3pc_ray.comparison.folder import ComparisonFolder
from m3pc_ray.comparison.method import Assignment
from m3pc_ray.comparison.methods import rllib
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.store import write_store
from tests.comparison.factory import compare
from tests.tiny_run import random_hopper_episodes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path):
    write_store(random_hopper_episodes(), tmp_path / "random")
    return tmp_path / "random"


@pytest.mark.slow
def test_exported_policies_act_as_rllib_does_and_checkpoints_change_nothing(store, tmp_path):
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("rllib_actions.py")), str(store), str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(out.read_text())
    assert sorted(results) == ["bc", "cql", "iql"]
    for algorithm, result in results.items():
        assert result["steps"] >= 5, algorithm
        assert result["spread"] > 1e-3, algorithm  # an episode of equal actions would prove nothing
        assert result["without_noise"] < 1e-6, algorithm
        assert result["greedy"] < 1e-6, algorithm
        assert result["done"] > 0, algorithm
        assert result["resumed"] == 0.0, algorithm


@pytest.mark.slow
def test_bc_in_a_comparison_counts_the_process_it_starts(store, tmp_path):
    assert compare(tmp_path / "out", "--data", str(store), "--methods", "bc", "--updates", "bc=25") == 0
    (cell,) = ComparisonFolder(tmp_path / "out").read()
    assert (cell["row"], cell["updates"], cell["implementation"]) == ("bc", 25, "RLlib")
    # Importing RLlib alone takes seconds of the other process.
    assert cell["cpu_seconds"] > 1.0


def test_a_training_that_fails_says_why(store, tmp_path, monkeypatch):
    monkeypatch.setattr(child, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(rllib, "PROGRAM", "no_such_program")
    given = Assignment("random", str(store), random_hopper_episodes(), 0, tmp_path, {"updates": 3})
    with pytest.raises(UserError, match=r"RLlib's training ended with code 1: .*no_such_program"):
        rllib.bc(given, lambda *_: {}, lambda *_: None)
