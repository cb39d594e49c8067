"""The replay actor's process dies while its workers live on: they send again what was not acknowledged, and go on."""

import os
import signal
import time

import pytest
import ray
from ray.exceptions import RayActorError

from actors.replay import ReplayActor
from actors.role import CONTROL
from m3pc_ray.online.exploration import Task
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.replay.fragments import EpisodeKey, Fragment
from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.trajectories.episodes import EpisodeEnd
from tests.online.factory import make_fragment

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.faults]


class _Replay(ReplayActor):
    async def process(self) -> int:
        return os.getpid()


def fragment(offset: int, steps: int, end: EpisodeEnd | None = None) -> Fragment:
    return make_fragment(0, offset, steps, end, observation_dim=4, action_dim=1)


def test_open_episodes_survive_a_restart_of_the_replay_and_end_with_a_new_run(pretrained, tmp_path):
    run = prepare(pretrained, tmp_path / "run", finetune_config(pretrained, {}))
    task = Task.from_checkpoint(load_checkpoint(run)[1])
    actor_class = ray.remote(num_cpus=0, max_restarts=1, concurrency_groups={CONTROL: 1})(_Replay)
    arguments = (str(run.path), run.config(), task, {})
    actor = actor_class.remote(*arguments)
    assert ray.get(actor.new_incarnation.remote(0)) == 0
    assert ray.get(actor.add.remote([fragment(0, 4)])) == 4

    os.kill(ray.get(actor.process.remote()), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while True:
        try:
            sent_again = ray.get(actor.add.remote([fragment(0, 4)]))
            break
        except RayActorError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert sent_again == 0  # it was in the log already
    assert ray.get(actor.add.remote([fragment(4, 3)])) == 3
    assert ray.get(actor.worker_steps.remote(0)) == 7
    assert ray.get(actor.new_incarnation.remote(1)) == 0
    status = ray.get(actor.status.remote())
    assert (status["open_episodes"], status["duplicates"]) == (1, 1)
    ray.kill(actor)

    after = actor_class.remote(*arguments)  # as a resumed run does
    assert ray.get(after.status.remote())["open_episodes"] == 0
    assert ray.get(after.add.remote([fragment(7, 2)])) == 0  # whoever sent that is gone
    assert ray.get(after.new_incarnation.remote(0)) == 1
    found = [(f.key, f.offset, f.num_steps, f.end) for f in read_log(run.path / "replay")]
    key = EpisodeKey(0, 0, 0)
    assert found == [(key, 0, 4, None), (key, 4, 3, None), (key, 7, 0, EpisodeEnd.CUT)]
    ray.kill(after)
