"""Roles whose processes are killed come back by themselves, and every count still adds up exactly."""

import os
import signal

import pytest

from actors import crew, monitor
from actors.online_run import OnlineRun
from actors.run_on_ray import run_on_ray
from m3pc_ray.commands.finetune import resume_finetune
from m3pc_ray.errors import UserError
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.online.watching.live import read_live
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.episodes import EpisodeEnd
from tests.actors.checks import assert_exact

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.faults]


class Killer(OnlineProgress):
    """Kills roles of its run at given step counts: (steps, name of the role), in order."""

    def __init__(self, run, plan):
        super().__init__(run, run.config(), quiet=True)
        self.plan, self.killed, self.online_run = list(plan), [], None

    def update(self, steps, updates, values, force=False):
        super().update(steps, updates, values, force)
        if self.plan and steps >= self.plan[0][0]:
            name = self.plan[0][1]
            status = self.online_run.crew.members[name].status
            if status.state == "running" and (name, status.pid) not in self.killed:
                self.plan.pop(0)
                self.killed.append((name, status.pid))
                self.kill(status.pid, signal.SIGKILL)

    kill = staticmethod(os.kill)


def finetune(pretrained, path, plan, monkeypatch, **overrides):
    settings = {"online.evaluate_every": "0", "online.steps": "400", "online.checkpoint_updates": "5"}
    run = prepare(pretrained, path, finetune_config(pretrained, {**settings, **overrides}))
    train = OnlineRun.train
    with Killer(run, plan) as progress:

        def watched(online_run):
            progress.online_run = online_run
            train(online_run)

        monkeypatch.setattr(OnlineRun, "train", watched)
        run_on_ray(run, progress, StopRequest(), learner_delay=0.005)
    assert not progress.plan
    return run, {role.name: role for role in read_live(run).roles}


def test_worker_planner_and_learner_come_back(pretrained, tmp_path, monkeypatch):
    plan = [(60, "rollout_worker-0"), (120, "planner-0"), (180, "learner")]
    run, roles = finetune(pretrained, tmp_path / "run", plan, monkeypatch)
    assert_exact(run, 400)
    assert {name: role.restarts for name, role in roles.items()} == {
        "replay": 0,
        "planner-0": 1,
        "learner": 1,
        "evaluator": 0,
        "rollout_worker-0": 1,
        "rollout_worker-1": 0,
    }
    # Checkpoints come every 5 updates, which the learner does in twos.
    assert 0 <= read_live(run).metrics["updates_lost"] <= 6
    fragments = list(read_log(run.path / "replay"))
    assert {(f.key.worker, f.key.incarnation) for f in fragments} == {(0, 0), (0, 1), (1, 0)}
    # Nobody continued what the dead worker had begun: it is cut, unless the worker died between two episodes.
    left = {f.key: f.end for f in fragments if (f.key.worker, f.key.incarnation) == (0, 0)}
    assert None not in left.values()
    assert list(left.values()).count(EpisodeEnd.CUT) <= 3  # its environments
    assert roles["planner-0"].values["weight_version"] > 0  # the new planner was given the learner's weights


def test_the_replay_comes_back_and_its_workers_go_on_with_their_episodes(pretrained, tmp_path, monkeypatch):
    run, roles = finetune(pretrained, tmp_path / "run", [(60, "replay"), (200, "replay")], monkeypatch)
    assert_exact(run, 400)
    assert roles["replay"].restarts == 2
    fragments = list(read_log(run.path / "replay"))
    assert {f.key.incarnation for f in fragments} == {0}
    cut = [f for f in fragments if f.end == EpisodeEnd.CUT]
    assert len(cut) <= 6  # the six environments' last episodes


@pytest.mark.slow
def test_workers_ask_another_planner_while_theirs_is_away(pretrained, tmp_path, monkeypatch):
    run, roles = finetune(
        pretrained,
        tmp_path / "run",
        [(60, "planner-1")],
        monkeypatch,
        **{"online.planners": "2", "online.overlap": "always", "online.max_weight_lag": "4"},
    )
    assert_exact(run, 400)
    assert roles["planner-1"].restarts == 1
    assert roles["rollout_worker-1"].values["requests_elsewhere"] > 0
    assert roles["rollout_worker-0"].values["requests_elsewhere"] == 0
    assert {roles[f"rollout_worker-{number}"].values["lanes"] for number in range(2)} == {2.0}
    assert roles["planner-1"].values["weight_version"] > 0


@pytest.mark.slow
def test_a_run_in_which_nothing_moves_says_where_everyone_stands_and_ends(pretrained, tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "CHECKPOINT_SECONDS", 1.0)
    monkeypatch.setattr(crew, "STACKS_SECONDS", 2.0)
    stopped = []

    def stop(pid, _signal):
        os.kill(pid, signal.SIGSTOP)
        stopped.append(pid)

    monkeypatch.setattr(Killer, "kill", staticmethod(stop))
    try:
        with pytest.raises(UserError, match=r"no step, update or evaluation for 0\.1 minutes.*m3pc resume"):
            finetune(pretrained, tmp_path / "run", [(60, "learner")], monkeypatch, **{"online.watchdog_minutes": "0.1"})
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGKILL)
    stuck = (tmp_path / "run" / "stuck.txt").read_text()
    assert "--- learner: running\nno answer" in stuck
    assert "in collect" in stuck or "--- rollout_worker-0" in stuck
    assert read_live(RunFolder.open(tmp_path / "run")).state == "failed"
    run = RunFolder.open(tmp_path / "run")
    resume_finetune(run.path, quiet=True)
    assert_exact(run, 400)
