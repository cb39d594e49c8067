"""Where Ray puts the roles on a cluster of which one node has a GPU."""

import json
import os
import sys

import pytest

from tests.cluster.head import run
from tests.cluster.mixed import NODES


@pytest.mark.slow
def test_the_models_are_where_the_gpu_is_and_the_simulators_are_not(tmp_path):
    report = tmp_path / "report.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment["RAY_AUTH_TOKEN"] = "0" * 64  # no token is written into the home folder
    ran = run([sys.executable, "-m", "tests.cluster.mixed", str(report)], environment)
    assert ran.returncode == 0, ran.stdout
    found = json.loads(report.read_text(encoding="utf-8"))
    with_gpu = {role for role, node in found["placed"] if NODES[node][1] > 0}
    without = {role for role, node in found["placed"] if NODES[node][1] == 0}
    assert with_gpu == {"planner", "learner", "evaluator"}
    assert without == {"replay", "rollout_worker"}
    assert found["threads"] == 2  # half the cores of the node with the GPU
