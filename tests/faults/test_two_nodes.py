"""A node of the cluster is lost in the middle of a run: its roles go to the other one, and every count is exact."""

import json
import sys

import pytest

from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.watching.live import read_live
from tests.actors.checks import assert_exact
from tests.faults.driver import Driver

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ROLES = {"replay", "planner-0", "planner-1", "learner", "evaluator", "rollout_worker-0", "rollout_worker-1"}


@pytest.mark.parametrize(
    "away", [("planner-1", "rollout_worker-1", "evaluator"), ("replay", "learner")], ids=["acting", "learning"]
)
def test_the_roles_of_a_lost_node_go_to_the_other(pretrained, tmp_path, away):
    settings = {"online.planners": "2", "online.evaluate_every": "0", "online.checkpoint_updates": "5"}
    run = prepare(pretrained, tmp_path / "run", finetune_config(pretrained, {**settings, "online.steps": "500"}))
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.faults.two_nodes", str(run.path), str(report), *away]
    with Driver(command, tmp_path / "output.txt") as driver:
        assert driver.wait() == 0, driver.output.read_text()[-3000:]
        driver.wait_until_gone(100.0)
    told = json.loads(report.read_text())
    print(told)
    assert told["before"] == {role: int(role in away) for role in ROLES}
    assert told["after"] == dict.fromkeys(ROLES, 0)
    assert set(told["recovery_seconds"]) == set(away)
    assert told["most_steps_lost"] == 0
    assert_exact(run, 500)
    restarts = {role.name: role.restarts for role in read_live(run).roles}
    assert restarts == {role: int(role in away) for role in ROLES}
