"""What trials reserve: a bundle a role, within the trial's cores; what can never fit is refused with the arithmetic."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from m3pc_ray.config import OnlineConfig, RunConfig
from m3pc_ray.errors import UserError
from tune.definition import Sweep
from tune.fitting import can_fit, check_fit, role_bundles, trial_bundles

LAPTOP = [{"CPU": 2.0, "GPU": 0.0}]
CLUSTER = [{"CPU": 16.0, "GPU": 2.0}, *({"CPU": 32.0, "GPU": 0.0} for _ in range(3))]


def config(**online: float) -> RunConfig:
    return RunConfig(online=replace(OnlineConfig(), **online))


@pytest.mark.parametrize("cpus", [0.0, 0.7, 1.0, 2.0])
def test_a_laptop_has_room_for_every_trial(cpus: float) -> None:
    sweep = Sweep("s", "finetune", trial_cpus=cpus)
    bundles = trial_bundles(sweep, config(), LAPTOP)
    assert len(bundles) == 1 + 1 + 1 + 1 + 1 + 2  # itself, replay, planner, learner, evaluator, two workers
    assert sum(bundle["CPU"] for bundle in bundles) <= (cpus or 2.0) + 1e-9
    assert all(bundle["CPU"] > 0 for bundle in bundles)


def test_a_trial_takes_no_more_than_its_roles_wish() -> None:
    bundles = trial_bundles(Sweep("s", "finetune"), config(), CLUSTER)
    assert [bundle["CPU"] for bundle in bundles[1:]] == [0.25, 1.0, 8.0, 1.0, 1.0, 1.0]
    assert 12.25 < sum(bundle["CPU"] for bundle in bundles) <= 13.0


def test_gpus_go_to_planner_learner_and_evaluator() -> None:
    bundles = trial_bundles(Sweep("s", "finetune", trial_gpus=1), config(), CLUSTER)
    assert [bundle.get("GPU", 0.0) for bundle in bundles] == [0.0, 0.0, 0.3, 0.4, 0.2, 0.0, 0.0]
    assert all("GPU" not in bundle for bundle in trial_bundles(Sweep("s", "finetune"), config(), CLUSTER))


def test_roles_and_bundles_are_in_the_same_order() -> None:
    online = config(rollout_workers=3, planners=2)
    placed = role_bundles(Sweep("s", "finetune", trial_cpus=16), online, CLUSTER)
    names = ["replay", "planner-0", "planner-1", "learner", "evaluator", *(f"rollout_worker-{n}" for n in range(3))]
    assert list(placed._roles) == names
    assert len(placed.bundles()) == 1 + len(names)


def test_an_evaluation_reserves_one_core() -> None:
    assert trial_bundles(Sweep("s", "evaluate"), RunConfig(), LAPTOP) == [{"CPU": 1.0}]
    assert trial_bundles(Sweep("s", "evaluate", trial_cpus=0.5), RunConfig(), LAPTOP) == [{"CPU": 0.5}]


@pytest.mark.parametrize(
    ("sweep", "settings", "nodes", "said"),
    [
        (Sweep("s", "evaluate", trial_cpus=4), {}, LAPTOP, "1 x 4 = 4 CPU; the cluster has 1 node of 2 CPU"),
        (Sweep("s", "evaluate", trial_gpus=1), {}, LAPTOP, "1 x 1 = 1 CPU, 1 x 1 = 1 GPU; the cluster has 1 node of 2"),
        (Sweep("s", "finetune"), {"rollout_workers": 64, "worker_cpus": 1.0}, LAPTOP, "64 x 1 + "),
        (Sweep("s", "finetune", trial_cpus=200), {"rollout_workers": 200}, CLUSTER, "202 x 0.903 + "),
        (Sweep("s", "evaluate", trial_cpus=33), {}, CLUSTER, "1 node of 16 CPU and 2 GPU, 3 nodes of 32 CPU"),
    ],
)
def test_what_can_never_fit_is_refused_with_the_arithmetic(sweep, settings, nodes, said) -> None:
    with pytest.raises(UserError, match="a trial reserves") as raised:
        trial_bundles(sweep, config(**settings), nodes)
    assert said in str(raised.value)
    assert "lower trial_cpus" in str(raised.value)


def test_what_fits_is_found_whatever_the_order() -> None:
    """Two nodes of 8 hold 4 + 4 and 3 + 3 + 2, which the largest first, each on the first node with room, does not
    find."""
    nodes = [{"CPU": 8.0}, {"CPU": 8.0}]
    assert can_fit([{"CPU": cpus} for cpus in (4.0, 3.0, 3.0, 2.0, 2.0, 2.0)], nodes)
    assert not can_fit([{"CPU": 3.0}] * 5, nodes)


def test_against_every_placement() -> None:
    rng = random.Random(random.SystemRandom().randrange(10**6))
    for _ in range(300):
        nodes = [{"CPU": rng.randint(1, 6), "GPU": rng.randint(0, 2)} for _ in range(rng.randint(1, 3))]
        bundles = [{"CPU": rng.randint(1, 4), "GPU": rng.randint(0, 1)} for _ in range(rng.randint(1, 5))]
        assert can_fit(bundles, nodes) == any(
            all(
                sum(bundle[name] for bundle, at in zip(bundles, places, strict=True) if at == node) <= nodes[node][name]
                for node in range(len(nodes))
                for name in ("CPU", "GPU")
            )
            for places in itertools.product(range(len(nodes)), repeat=len(bundles))
        ), (bundles, nodes)


def test_many_bundles_take_no_time() -> None:
    nodes = [{"CPU": 7.0}] * 40
    assert can_fit([{"CPU": 3.5}] * 60 + [{"CPU": 1.0}] * 60, nodes)


def test_worker_cpus_beyond_the_trials_cores_are_refused() -> None:
    with pytest.raises(UserError, match="more than trial_cpus = 2"):
        trial_bundles(Sweep("s", "finetune", trial_cpus=2), config(worker_cpus=1.0), CLUSTER)


def test_bundles_are_placed_whole() -> None:
    check_fit([{"CPU": 1.5}, {"CPU": 1.5}], [{"CPU": 2.0}, {"CPU": 2.0}])
    with pytest.raises(UserError, match="2 x 1.5 = 3 CPU"):
        check_fit([{"CPU": 1.5}, {"CPU": 1.5}], [{"CPU": 3.0 - 0.1}, {"CPU": 1.0}])
