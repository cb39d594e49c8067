"""Killing an actor's process: recognised as Ray's, here and through the cluster, and Ray starts it again."""

import os
import socket
import time

import pytest
import ray

from actors.chaos import end_worker_on
from m3pc_ray.commands.chaos import _make_killer
from m3pc_ray.errors import UserError
from m3pc_ray.online.watching.processes import end_worker, is_ray_worker, process_title
from tests.online.watching.live_factory import role, status


class Role:
    """An actor that knows its process."""

    def process(self) -> int:
        return os.getpid()


@pytest.fixture
def actor(cluster):
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Role).remote()
    yield actor
    ray.kill(actor)


def wait_for_another(actor, pid: int) -> int:
    """The actor's new process."""
    ends = time.monotonic() + 60.0
    while time.monotonic() < ends:
        new = ray.get(actor.process.remote(), timeout=60.0)
        if new != pid:
            return new
        time.sleep(0.1)
    raise AssertionError(f"the actor is still process {pid}")


def test_an_actors_process_is_rays_and_comes_back(actor):
    pid = ray.get(actor.process.remote())
    assert process_title(pid).startswith("ray::Role")
    assert is_ray_worker(pid)
    assert not is_ray_worker(os.getpid())
    end_worker(pid)
    assert wait_for_another(actor, pid) != pid
    with pytest.raises(ProcessLookupError):
        end_worker(pid)


def test_through_the_cluster(actor, cluster):
    pid = ray.get(actor.process.remote())
    end_worker_on(cluster, socket.gethostname(), pid)
    assert wait_for_another(actor, pid) != pid
    with pytest.raises(ProcessLookupError):
        end_worker_on(cluster, socket.gethostname(), pid)


def test_the_command_goes_through_the_cluster_for_other_machines(actor, cluster, monkeypatch):
    pid, host = ray.get(actor.process.remote()), socket.gethostname()
    monkeypatch.setattr(socket, "gethostname", lambda: "where the command runs")
    victim = role("planner-0", "planner", pid=pid, host=host)
    assert _make_killer()(status(ray_address=cluster), victim) == "SIGKILL through Ray"
    assert wait_for_another(actor, pid) != pid


def test_what_cannot_be_reached(cluster):
    with pytest.raises(ProcessLookupError, match="is not one of Ray's"):
        end_worker_on(cluster, socket.gethostname(), os.getpid())
    with pytest.raises(UserError, match="far-away: no living machine"):
        end_worker_on(cluster, "far-away", 1)
