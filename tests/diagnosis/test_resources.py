from dataclasses import replace

import numpy as np
import pytest

from m3pc_ray.config import OnlineConfig, RunConfig
from m3pc_ray.diagnosis import memory, resources
from m3pc_ray.diagnosis.resources import Machine, check_resources, place, this_machine
from m3pc_ray.online.resources import divide_resources
from m3pc_ray.training.assemble import build_models
from tests.online.factory import random_episodes, tiny_config

GIBIBYTE = float(2**30)


@pytest.fixture(scope="module")
def trajectories():
    return random_episodes()


def machine(*cores: float, gpus: float = 0.0, gibibytes: float = 16.0, store: float = 0.25) -> Machine:
    """GPUs are the first node's."""
    nodes = len(cores)
    first_has = (gpus, *[0.0] * (nodes - 1))
    memory_bytes, object_store_bytes = (gibibytes * GIBIBYTE,) * nodes, (store * GIBIBYTE,) * nodes
    return Machine(cores, first_has, memory_bytes, object_store_bytes, "test", nodes == 1)


def with_online(**settings) -> RunConfig:
    config = RunConfig()
    return replace(config, online=replace(config.online, **settings))


def statuses(rows) -> dict[str, str]:
    return {row.name: row.status for row in rows}


def test_the_defaults_fit_two_cores(trajectories):
    rows = check_resources(RunConfig(), trajectories, machine(2.0))
    assert statuses(rows) == {"cores": "ok", "memory": "ok", "object store": "ok"}
    assert "2 x 0.361 + 1 x 0.361 + 0.361 + 0.09 + 0.361 = 1.90 of 2 cores" in rows[0].found


def test_the_sums_that_are_printed_are_right(trajectories):
    _, row, store = check_resources(with_online(rollout_workers=3), trajectories, machine(8.0))
    for found in (row.found, store.found):
        left, _, right = found.partition(" = ")
        total = 0.0
        for term in left.split(" + "):
            words = term.split("(")[0].replace(",", "").split()
            total += float(words[0]) * (float(words[2]) if words[1] == "x" else 1.0)
        assert total == pytest.approx(float(right.split()[0].replace(",", "")), abs=4)


def test_many_workers_on_few_cores_are_a_warning(trajectories):
    row = check_resources(with_online(rollout_workers=20), trajectories, machine(2.0))[0]
    assert row.status == "warning"
    assert "--rollout-workers" in row.advice


def test_a_learner_larger_than_every_node_fails(trajectories):
    config = with_online(threads=16)
    assert check_resources(config, trajectories, machine(8.0, 8.0, 8.0))[0].status == "failure"
    assert "online.threads" in check_resources(config, trajectories, machine(8.0, 8.0, 8.0))[0].advice
    assert check_resources(config, trajectories, machine(32.0))[0].status == "ok"


def test_too_little_memory_fails_and_little_is_a_warning(trajectories):
    assert check_resources(RunConfig(), trajectories, machine(2.0, gibibytes=1.0))[1].status == "failure"
    assert check_resources(RunConfig(), trajectories, machine(2.0, gibibytes=3.3))[1].status == "warning"
    assert check_resources(RunConfig(), trajectories, machine(2.0, gibibytes=8.0))[1].status == "ok"


def test_a_large_replay_needs_memory(trajectories):
    config = with_online(replay_capacity=10**9, steps=10**9)
    assert check_resources(config, trajectories, machine(2.0))[1].status == "failure"


def test_weights_larger_than_the_object_store_fail(trajectories):
    config = RunConfig()
    wide = replace(config, model=replace(config.model, width=2048))
    row = check_resources(wide, trajectories, machine(2.0, store=0.25))[2]
    assert row.status == "failure"
    assert "--object-store-memory" in row.advice


def test_a_gpu_is_shared_and_can_be_declined(trajectories):
    assert "learner 0.4" in check_resources(RunConfig(), trajectories, machine(8.0, gpus=1.0))[0].found
    assert "GPU" not in check_resources(RunConfig(device="cpu"), trajectories, machine(8.0, gpus=1.0))[0].found


def test_roles_are_placed_where_they_fit_and_each_once():
    shares = divide_resources(6.0, 2.0, 0, OnlineConfig(rollout_workers=2, threads=1))
    placed = place(shares, 2, machine(2.0, 2.0, 2.0))
    assert placed is not None
    assert sorted(role for roles in placed for role in roles) == [
        "evaluator", "learner", "planner", "replay", "rollout_worker", "rollout_worker",
    ]  # fmt: skip
    for roles in placed:
        assert sum(getattr(shares, role)["num_cpus"] for role in roles) <= 2.0
    shares = divide_resources(6.0, 2.0, 0, OnlineConfig(rollout_workers=2, threads=8))
    assert place(shares, 2, machine(2.0, 2.0, 2.0)) is None


@pytest.mark.parametrize("workers", [1, 2, 7, 50])
@pytest.mark.parametrize("cores", [1.0, 2.0, 16.0, 96.0])
def test_shares_never_exceed_one_node(workers, cores):
    shares = divide_resources(cores, cores, 1, OnlineConfig(rollout_workers=workers))
    roles = [shares.planner, shares.learner, shares.replay, shares.evaluator]
    assert sum(role["num_cpus"] for role in roles) + workers * shares.rollout_worker["num_cpus"] <= cores
    assert sum(role.get("num_gpus", 0.0) for role in roles) <= 1.0
    assert shares.threads == max(1, min(8, int(cores) // 2))


@pytest.mark.parametrize("gpus", [2, 4, 8])
@pytest.mark.parametrize("planners", [0, 1, 3])
def test_several_gpus_are_all_used_and_none_is_given_twice(gpus, planners):
    shares = divide_resources(64.0, 64.0, gpus, OnlineConfig(rollout_workers=4, planners=planners))
    assert shares.planners == (planners or gpus - 1)
    assert shares.learner["num_gpus"] + shares.evaluator["num_gpus"] <= 1.0
    assert shares.planners * shares.planner["num_gpus"] <= gpus - 1
    assert shares.planner["num_gpus"] > 0.3  # more than a planner has of a single one


@pytest.mark.parametrize("workers", [4, 64])
@pytest.mark.parametrize("gpu_cores", [1.0, 2.0, 4.0, 8.0, 64.0])
@pytest.mark.parametrize("gpus", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("others", [(), (16.0,) * 4, (96.0,)])
def test_roles_with_a_gpu_fit_on_the_node_that_has_it(workers, gpu_cores, gpus, others):
    mixed = machine(gpu_cores, *others, gpus=gpus)
    online = OnlineConfig(rollout_workers=workers)
    shares = divide_resources(sum(mixed.cores), max(mixed.cores), int(gpus), online, [gpu_cores])
    placed = place(shares, workers, mixed)
    assert placed is not None
    assert set(placed[0]) >= {"learner", "evaluator", "planner"}
    assert placed[0].count("planner") == shares.planners
    if others == (96.0,):  # as long as there is room, what needs no GPU leaves its node alone
        assert "rollout_worker" not in placed[0]


def test_equal_nodes_with_a_gpu_each_have_learner_and_planners_apart():
    mixed = Machine((4.0, 4.0, 64.0), (1.0, 1.0, 0.0), (1.0,) * 3, (1.0,) * 3, "test", False)
    shares = divide_resources(72.0, 64.0, 2, OnlineConfig(rollout_workers=32), [4.0, 4.0])
    assert shares.threads == 2  # half the cores of a node with a GPU, not of the largest
    placed = place(shares, 32, mixed)
    assert placed is not None
    assert sorted(placed[:2]) == [["learner", "evaluator"], ["planner"]]


def test_planners_share_the_only_gpu_and_workers_reserve_what_is_asked():
    online = OnlineConfig(rollout_workers=4, planners=3, worker_cpus=0.25)
    shares = divide_resources(16.0, 16.0, 1, online)
    assert 3 * shares.planner["num_gpus"] + shares.learner["num_gpus"] + shares.evaluator["num_gpus"] <= 1.0
    assert shares.rollout_worker["num_cpus"] == 0.25


def test_parameters_are_those_of_the_model(trajectories):
    config = tiny_config("none")
    models = build_models(config, trajectories)
    expected = sum(parameter.numel() for parameter in models.model.parameters())
    counted = memory.count_parameters(config.model, trajectories.observation_dim, trajectories.action_dim)
    assert counted == expected


def test_the_mirror_is_what_the_storage_allocates(trajectories, tmp_path):
    from m3pc_ray.online.learner import build_storage
    from m3pc_ray.trajectories.store import write_store

    write_store(trajectories, tmp_path / "dataset")
    config = tiny_config(str(tmp_path / "dataset"))
    config = replace(config, online=replace(config.online, steps=500, replay_capacity=500))
    storage = build_storage(config, build_models(config, trajectories))
    arrays = [vars(storage)[name] for name in ("_order", "_segment_starts", "_segment_steps")]
    rows = (storage._rows.returns_known, storage._rows.steps.values, storage._rows.outcomes.values)
    held = sum(array.nbytes for array in (*arrays, *rows)) + trajectories.num_bytes
    assert memory.mirror_bytes(config, trajectories) == held


def test_memory_grows_with_what_it_depends_on(trajectories):
    def needed(config: RunConfig) -> dict[str, float]:
        items = memory.estimate(config, trajectories, 10**6)
        return {item.role: item.megabytes for item in items}

    plain = needed(RunConfig())
    assert needed(with_online(btm_batch_size=1024))["learner"] > plain["learner"]
    assert needed(with_online(num_candidates=6250))["planner"] > plain["planner"]
    assert needed(with_online(rollout_workers=64))["planner"] > plain["planner"]
    assert set(plain) < set(memory.OWN_MEGABYTES)


def test_this_machine_heeds_a_containers_limit(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(resources, "_CGROUP_LIMIT", limit)
    free = this_machine(1.0).memory_bytes[0]
    assert free > 1e8
    limit.write_text("1000000\n")
    assert this_machine(1.0).memory_bytes == (1e6,)
    limit.write_text("max\n")
    assert this_machine(1.0).memory_bytes[0] == pytest.approx(free, rel=0.5)
    assert np.isfinite(this_machine(1.0).cores).all()
