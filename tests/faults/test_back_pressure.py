"""With a learner over ten times as slow nothing piles up: object store, fragments in memory and roles stay flat.

                     settled                end
samples   |..........|::::::::::|..........|::::::::::|   growth = mean of the last quarter - mean of the second
"""

import time

import pytest
import ray

from actors import online_run
from actors.online_run import OnlineRun
from actors.run_on_ray import run_on_ray
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.training.interrupt import StopRequest
from tests.actors.checks import assert_exact
from tests.faults.leaky import LEAK_BYTES, LeakyReplay

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("cluster")]

MIB = 2**20
UPDATE_DELAY_SECONDS = 0.025
"""Updates of the tiny models take 1.4 ms on average: 12 ms the trajectory model's, 0.3 ms the critic's, ten times as
many. So this is a learner more than ten times as slow."""
MOST_STORE_GROWTH = 1 * MIB
"""Of the object store: a set of the tiny model's weights has 50 kB, and few are alive at a time."""
MOST_ROLE_GROWTH = 24 * MIB
"""Of any role's resident memory: a batch of a size that torch has not seen yet costs the planner 20 MiB, once."""


class Measured(OnlineProgress):
    """Samples memory while the run goes on."""

    online_run: OnlineRun

    def __init__(self, run) -> None:
        super().__init__(run, run.config(), quiet=True)
        self.store, self.fragments, self.waiting = [], [], 0.0
        self.roles: dict[str, list[int]] = {}
        self.sampled = 0.0

    def update(self, steps, updates, values, force=False):
        super().update(steps, updates, values, force)
        now = time.monotonic()
        if steps < self.config.online.start_steps or now - self.sampled < 0.25:
            return
        self.sampled = now
        self.store.append(object_store_bytes())
        self.fragments.append(self.values["fragments_in_memory"])
        self.waiting = max(self.waiting, self.values.get("waiting_steps", 0.0))
        for role in self.online_run.crew.roster():
            self.roles.setdefault(role.name, []).append(role.memory_bytes)


def object_store_bytes() -> float:
    """Bytes of the cluster's object stores that hold objects."""
    total, free = (
        resources["object_store_memory"] for resources in (ray.cluster_resources(), ray.available_resources())
    )
    return total - free


def growth(samples) -> float:
    quarter = len(samples) // 4
    return sum(samples[-quarter:]) / quarter - sum(samples[quarter : 2 * quarter]) / quarter


def measure(pretrained, path, steps: int, monkeypatch) -> Measured:
    settings = {"online.evaluate_every": "0", "online.steps": str(steps), "online.publish_every": "1"}
    run = prepare(pretrained, path, finetune_config(pretrained, settings))
    train = OnlineRun.train
    with Measured(run) as measured:

        def watched(online_run):
            measured.online_run = online_run
            train(online_run)

        monkeypatch.setattr(OnlineRun, "train", watched)
        run_on_ray(run, measured, StopRequest(), learner_delay=UPDATE_DELAY_SECONDS)
    assert_exact(run, steps)
    assert len(measured.store) >= 20
    roles = {name: round(growth(samples) / MIB, 2) for name, samples in measured.roles.items()}
    print(f"growth in MiB over {len(measured.store)} samples: object store {growth(measured.store) / MIB:.2f}, {roles}")
    print(f"rollouts waited {measured.waiting:.0%}, at most {max(measured.fragments):.0f} fragments in memory")
    return measured


@pytest.mark.slow
def test_nothing_piles_up_behind_a_slow_learner(pretrained, tmp_path, monkeypatch):
    measured = measure(pretrained, tmp_path / "run", 2000, monkeypatch)
    assert measured.waiting > 0.5  # it is the learner that limits
    assert growth(measured.store) < MOST_STORE_GROWTH
    assert max(measured.store) < 4 * MIB
    for name, samples in measured.roles.items():
        assert growth(samples) < MOST_ROLE_GROWTH, name
    # Never more than the limiter lets the log be ahead of the learner, and what it collects at first.
    online = measured.config.online
    assert max(measured.fragments) <= online.rate_tolerance_steps + online.start_steps
    assert growth(measured.fragments) < 10.0


@pytest.mark.slow
def test_the_measurement_sees_a_leak(pretrained, tmp_path, monkeypatch):
    monkeypatch.setattr(online_run, "ReplayActor", LeakyReplay)
    measured = measure(pretrained, tmp_path / "run", 400, monkeypatch)
    leaked = 0.5 * len(measured.store) * LEAK_BYTES  # half of the samples lie between the two quarters
    assert growth(measured.store) > 0.8 * leaked > MOST_STORE_GROWTH
    assert growth(measured.roles["replay"]) > MOST_ROLE_GROWTH
