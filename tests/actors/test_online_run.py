"""The whole topology on Ray: exact counts, normally, with a slow learner, interrupted, and on a cluster joined."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from actors.run_on_ray import run_on_ray
from m3pc_ray.agent import Agent
from m3pc_ray.commands.finetune import resume_finetune
from m3pc_ray.config import DataConfig
from m3pc_ray.errors import UserError
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.online.watching.live import read_live
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.metrics import read_metrics
from m3pc_ray.training.run_folder import RunFolder
from tests.actors.checks import assert_exact
from tests.test_metrics_page import missing

pytestmark = pytest.mark.usefixtures("cluster")

REPOSITORY = Path(__file__).parents[2]


class Watched(OnlineProgress):
    """Remembers every count that the driver saw; asks for a stop at `stop_at` steps."""

    stop_at = 10**9

    def __init__(self, run: RunFolder, stop: StopRequest) -> None:
        super().__init__(run, run.config(), quiet=True)
        self.stop, self.seen = stop, []

    def update(self, steps, updates, values, force=False):
        super().update(steps, updates, values, force)
        self.seen.append((steps, dict(updates), dict(values)))
        self.stop.requested |= steps >= self.stop_at


def test_counts_are_exact_and_the_run_is_an_ordinary_run(pretrained, tmp_path):
    run = prepare(pretrained, tmp_path / "run", finetune_config(pretrained, {}))
    assert resume_finetune(run.path, quiet=True) == 0
    assert_exact(run)
    assert {fragment.key.worker for fragment in read_log(run.path / "replay")} == {0, 1}
    evaluations = [row["step"] for row in read_metrics(run, "evaluation")]
    assert evaluations[0] == 0
    assert evaluations[-1] == 203
    last = read_metrics(run, "online")[-1]
    for name in ("steps_per_second", "planner_batch_mean", "weight_lag_mean", "btm/loss", "critic/q_loss"):
        assert last[name] is not None, name
    assert 1.0 <= last["planner_batch_mean"] <= 6.0
    assert last["weight_version"] > 0  # the planner was given new weights
    assert last["duplicates"] == 0
    assert missing(set(last) - {"time", "stream", "step"}, "online") == set()
    live = read_live(run)
    assert live.state == "finished"
    assert live.steps == 203
    for role in live.roles:
        assert missing(set(role.values), "live.json") == set()
    assert Agent.load(run.path).predict([0.0, 0.1, 0.0, 0.1]).shape == (1,)


def test_slow_learner_holds_the_rollouts_back(pretrained, tmp_path):
    config = finetune_config(pretrained, {"online.steps": "120", "online.evaluate_every": "0"})
    run = prepare(pretrained, tmp_path / "run", config)
    with Watched(run, StopRequest()) as progress:
        run_on_ray(run, progress, progress.stop, learner_delay=0.03)
    assert_exact(run, 120)
    for steps, updates, _ in progress.seen:
        # The log never runs away from the learner by more than the tolerance of 48 steps.
        assert steps <= max(40, (updates["critic"] + 0.5) / 1.0 + 1 + 48)
        assert updates["critic"] <= steps + 48
    _, _, values = progress.seen[-1]
    waiting = max(values.get("waiting_steps", 0.0) for _, _, values in progress.seen)
    assert waiting > 0.2
    assert max(values.get("fragments_in_memory", 0.0) for _, _, values in progress.seen) <= 48 + 40


def test_interrupted_run_is_checkpointed_and_resumes_exactly(pretrained, tmp_path):
    run = prepare(pretrained, tmp_path / "run", finetune_config(pretrained, {"online.evaluate_every": "0"}))
    with Watched(run, StopRequest()) as progress:
        progress.stop_at = 60
        with pytest.raises(KeyboardInterrupt):
            run_on_ray(run, progress, progress.stop, learner_delay=0.01)
    summary = run.summary()
    assert summary["status"] == "interrupted"
    assert 60 <= summary["environment_steps"] < 203
    _, state = load_checkpoint(run)
    assert state["online"]["steps"] == summary["environment_steps"]
    assert state["online"]["updates"]["critic"] == summary["critic_updates"]
    resume_finetune(run.path, quiet=True)
    assert_exact(run)
    assert {fragment.key.incarnation for fragment in read_log(run.path / "replay")} == {0, 1}


def test_a_mistake_that_only_a_role_notices_is_one_line(pretrained, tmp_path):
    run = prepare(pretrained, tmp_path / "run", finetune_config(pretrained, {}))
    run.write_config(replace(run.config(), data=DataConfig(dataset=str(tmp_path / "gone.hdf5"))))
    with pytest.raises(UserError, match=r"gone\.hdf5"):
        resume_finetune(run.path, quiet=True)
    assert run.summary()["status"] == "failed"


@pytest.mark.slow
def test_command_line_joins_the_cluster_of_ray_address(pretrained, tmp_path, cluster):
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-c",
        "import sys; from m3pc_ray.cli import main; sys.exit(main())",
        "finetune",
        "--run",
        str(pretrained.path),
        "--out",
        str(out),
    ]
    command += ["--steps", "50", "--rollout-workers", "1", "--online.evaluate_every", "0"]
    environment = {**os.environ, "RAY_ADDRESS": cluster}
    answer = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert_exact(RunFolder.open(out), 50)
    assert "50 steps, 5 model and 50 critic updates" in answer.stdout
