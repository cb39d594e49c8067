"""Every cause is found from the numbers that show it, and only then; every advice names a setting that exists."""

import dataclasses
import math

import pytest

from m3pc_ray.config import OnlineConfig
from m3pc_ray.online.watching.bottleneck import Finding, findings
from m3pc_ray.online.watching.live import LiveStatus
from tests.online.watching.live_factory import role, status

ONLINE = OnlineConfig(rollout_workers=4, environments_per_worker=4)
WORKERS = [role(f"rollout_worker-{number}", "rollout_worker") for number in range(4)]
ROLES = [*WORKERS, role("planner-0", "planner"), role("learner", "learner"), role("replay", "replay")]
HEALTHY = {
    "waiting_steps": 0.02,
    "waiting_updates": 0.6,
    "learner_busy": 0.4,
    "simulation_share": 0.2,
    "planning_share": 0.75,
    "planner_busy": 0.95,
    "planner_batch_mean": 8.0,
    "planner_batch_ms": 40.0,
    "planner_wait_ms": 20.0,
    "weight_lag_mean": 90.0,
}


def found(online: OnlineConfig = ONLINE, roles: list = ROLES, **metrics: float) -> list[Finding]:
    return findings([status(roles=roles, metrics={**HEALTHY, **metrics}, seconds=1000.0)], online)


@pytest.mark.parametrize(
    ("metrics", "cause", "setting", "direction"),
    [
        ({}, "planning", "online.num_candidates", "lower"),
        (
            {"waiting_steps": 0.4, "waiting_updates": 0.0, "learner_busy": 0.97},
            "learner",
            "online.btm_updates_per_step",
            "lower",
        ),
        (
            {"waiting_steps": 0.4, "waiting_updates": 0.0, "learner_busy": 0.5},
            "learner_held_up",
            "online.rate_tolerance_steps",
            "raise",
        ),
        ({"waiting_steps": 0.3, "waiting_updates": 0.3}, "tolerance", "online.rate_tolerance_steps", "raise"),
        ({"simulation_share": 0.7, "planning_share": 0.25}, "simulation", "online.rollout_workers", "raise"),
        ({"simulation_share": 0.2, "planning_share": 0.2}, "replay", "online.fragment_steps", "raise"),
        (
            {"planner_busy": 0.5, "planner_batch_mean": 2.0, "planner_wait_ms": 1.0},
            "small_batches",
            "online.planner_batch_wait_ms",
            "raise",
        ),
        (
            {"planner_busy": 0.5, "planner_batch_ms": 4.0, "planner_wait_ms": 2.0},
            "company",
            "online.planner_batch_wait_ms",
            "lower",
        ),
        (
            {"planner_busy": 0.3, "planner_batch_ms": 4.0, "planner_wait_ms": 0.3},
            "calls",
            "online.environments_per_worker",
            "raise",
        ),
    ],
)
def test_the_limit_follows_from_the_numbers(metrics, cause, setting, direction):
    (finding,) = found(**metrics)
    assert (finding.cause, finding.setting, finding.direction) == (cause, setting, direction)
    value = getattr(ONLINE, setting.removeprefix("online."))
    assert f"{direction.capitalize()} {setting} (now {value:g})" in finding.sentence
    assert finding.sentence.endswith(".")


def test_the_learner_comes_before_what_workers_do():
    """Whatever workers spend their time on: while the limiter holds them back, speeding them up changes nothing."""
    (finding,) = found(
        waiting_steps=0.5, waiting_updates=0.0, learner_busy=0.99, simulation_share=0.9, planning_share=0.1
    )
    assert finding.cause == "learner"
    assert "50%" in finding.sentence


def test_the_largest_share_counts():
    """A third of the time in sending is much, and yet not what to change first."""
    assert found(simulation_share=0.1, planning_share=0.6)[-1].cause == "planning"
    assert found(simulation_share=0.6, planning_share=0.1)[-1].cause == "simulation"


def test_small_batches_whose_requests_wait_already_should_not_wait_longer():
    finding = found(planner_busy=0.5, planner_batch_mean=2.0, planner_wait_ms=20.0)[-1]
    assert (finding.cause, finding.direction) == ("company", "lower")


def test_without_a_guide_no_candidates_can_be_saved():
    (finding,) = found(dataclasses.replace(ONLINE, guide="none"))
    assert (finding.cause, finding.setting, finding.direction) == ("planning", "", "")
    assert "num_candidates" not in finding.sentence


def test_a_slow_disk_is_told_from_slow_calls():
    disk = [*ROLES[:-1], role("replay", "replay", values={"sync_share": 0.8})]
    (finding,) = found(roles=disk, simulation_share=0.2, planning_share=0.2)
    assert (finding.cause, finding.setting) == ("sync", "online.fragment_steps")
    assert "80%" in finding.sentence
    (finding,) = found(roles=disk)  # the disk is busy, and nobody waits for it
    assert finding.cause == "planning"


def test_batches_are_judged_by_the_workers_and_planners_that_run():
    """Two rows are a small batch of 16 environments, and half of the 4 that one of four planners serves."""
    metrics = {"planner_busy": 0.5, "planner_batch_mean": 2.0, "planner_wait_ms": 1.0}
    assert found(**metrics)[-1].cause == "small_batches"
    four = [*ROLES, *(role(f"planner-{number}", "planner") for number in (1, 2, 3))]
    assert found(roles=four, **metrics)[-1].cause == "calls"
    dead = [dataclasses.replace(worker, state="restarting") for worker in WORKERS[1:]]
    assert found(roles=[WORKERS[0], *dead, *ROLES[4:]], **metrics)[-1].cause == "calls"


@pytest.mark.parametrize("missing", ["simulation_share", "planning_share", "planner_busy", "planner_batch_ms"])
@pytest.mark.parametrize("how", ["absent", "nan"])
def test_what_is_not_measured_leads_to_no_claim(missing, how):
    metrics = {**HEALTHY, missing: math.nan}
    if how == "absent":
        del metrics[missing]
    (finding,) = findings([status(roles=ROLES, metrics=metrics)], ONLINE)
    assert (finding.cause, finding.setting) == ("unknown", "")


def test_no_metrics_at_all():
    (finding,) = findings([status(roles=[], metrics={})], ONLINE)
    assert finding.cause == "unknown"


@pytest.mark.parametrize("state", ["starting", "recovering", "finishing", "finished", "failed"])
def test_a_run_that_is_not_running_has_no_limit(state):
    (finding,) = findings([status(state=state, roles=ROLES, metrics=HEALTHY)], ONLINE)
    assert finding.cause == "state"
    assert state in finding.sentence


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({}, "online.rate_tolerance_steps"),  # 2 x 400 x 0.2 = 160 updates, against 50 and 160 / 2
        ({"publish_every": 1000}, "online.publish_every"),
        ({"fragment_steps": 500, "environments_per_worker": 16}, "online.fragment_steps"),
    ],
)
def test_old_weights_are_blamed_on_the_largest_part_of_the_lag(changes, setting):
    online = dataclasses.replace(OnlineConfig(), **changes)
    lag, limit = found(online, weight_lag_mean=500.0)
    assert (lag.cause, lag.setting, lag.direction) == ("weight_lag", setting, "lower")
    assert "500 updates" in lag.sentence
    assert limit.cause == "planning"
    assert len(found(online, weight_lag_mean=200.0)) == 1


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("rollout_worker", "environments_per_worker"),
        ("planner", "num_candidates"),
        ("learner", "btm_batch_size"),
        ("replay", "rollout_workers"),
        ("evaluator", "evaluation_episodes"),
    ],
)
def test_a_role_that_keeps_dying_is_named_first(kind, setting):
    dying = role("the-one", kind, restarts=4)
    restarts, limit = found(roles=[*ROLES, dying])
    assert (restarts.cause, restarts.setting, restarts.direction) == ("restarts", f"online.{setting}", "lower")
    assert restarts.sentence.startswith("the-one keeps dying: 4 restarts in 17 min.")
    assert f"where it is memory, lower online.{setting}" in restarts.sentence
    assert limit.cause != "restarts"


def test_restarts_now_and_then_are_nothing_to_report():
    assert len(found(roles=[*ROLES, role("x", "planner", restarts=2)])) == 1
    three = [status(roles=[*ROLES, role("x", "planner", restarts=3)], metrics=HEALTHY, seconds=86_400.0)]
    assert len(findings(three, ONLINE)) == 1


def grown(kind: str, mebibytes: list[int], seconds: float = 120.0, pids: tuple[int, ...] = ()) -> list[LiveStatus]:
    """Statuses at equal distances in which one role has so much memory."""
    last = len(mebibytes) - 1
    return [
        status(
            time=1e9 + seconds * number / last,
            roles=[role("it", kind, memory_bytes=memory * 2**20, pid=pids[number] if pids else 9)],
            metrics=HEALTHY,
        )
        for number, memory in enumerate(mebibytes)
    ]


@pytest.mark.parametrize(
    ("kind", "setting"),
    [("learner", "online.replay_capacity"), ("replay", "online.rate_tolerance_steps"), ("rollout_worker", "")],
)
def test_memory_that_grows_all_the_time(kind, setting):
    memory, _ = findings(grown(kind, [500, 600, 700, 800, 900]), ONLINE)
    assert (memory.cause, memory.setting) == ("memory", setting)
    assert "Memory of it grows by 200 MiB a minute, now 0.9 GiB" in memory.sentence


@pytest.mark.parametrize(
    "history",
    [
        grown("learner", [500, 800, 900, 900, 900]),  # it started up
        grown("learner", [500, 500, 500, 700, 900]),  # once, and not yet for long
        grown("learner", [500, 505, 510, 515, 520]),  # too little
        grown("learner", [500, 600, 700, 800, 900], seconds=30.0),  # too short
        grown("learner", [500, 600, 700, 800, 900], pids=(1, 1, 1, 2, 2)),  # another process since
        grown("learner", [500, 900]),  # two looks show no course
    ],
)
def test_memory_that_does_not(history):
    assert [finding.cause for finding in findings(history, ONLINE)] == ["planning"]


def test_several_things_at_once_keep_their_order():
    history = [
        dataclasses.replace(entry, roles=[*entry.roles, role("x", "planner", restarts=9)], seconds=900.0,
                            metrics={**HEALTHY, "weight_lag_mean": 900.0})
        for entry in grown("learner", [500, 700, 900])
    ]  # fmt: skip
    assert [finding.cause for finding in findings(history, ONLINE)] == ["restarts", "memory", "weight_lag", "planning"]
