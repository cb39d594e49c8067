"""What the actors add to the plain roles, without Ray."""

import asyncio
import time

import numpy as np
import pytest

from actors.cluster import join
from actors.planner import PlannerActor
from actors.replay import ReplayActor
from m3pc_ray.errors import UserError
from m3pc_ray.online.exploration import Task
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.roles import make_plan_service
from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.run_folder import RunFolder
from tests.online.factory import make_fragment


@pytest.fixture(scope="module")
def run(pretrained, tmp_path_factory) -> RunFolder:
    return prepare(pretrained, tmp_path_factory.mktemp("roles") / "run", finetune_config(pretrained, {}))


def context(rows: int, seed: int) -> PlanningContext:
    rng = np.random.default_rng(seed)
    return PlanningContext(
        observations=rng.normal(size=(rows, 3, 4)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(rows, 2, 1)).astype(np.float32),
        timesteps=np.full(rows, 5),
        keys=np.array([(0, 100 * seed + row, 5) for row in range(rows)], dtype=np.uint64),
    )


def test_planner_joins_what_waits_and_answers_each_its_own(run):
    actor = PlannerActor(str(run.path), workers=2, device="cpu", threads=1)

    async def ask() -> list:
        return await asyncio.gather(actor.plan(context(3, 1), 0), actor.plan(context(2, 2), 1))

    answers = asyncio.run(ask())
    assert (actor._batches, actor._rows, actor._requests) == (1, 5, 2)
    service = make_plan_service(run, "cpu")
    for answer, (rows, seed) in zip(answers, ((3, 1), (2, 2)), strict=True):
        assert answer.version == 0
        np.testing.assert_allclose(answer.actions, service.plan(context(rows, seed)).actions, atol=1e-5)


def test_planner_hands_everyone_the_records_of_their_own_rows(pretrained, tmp_path):
    recording = finetune_config(pretrained, {"online.record_decisions": "true"})
    recorded = prepare(pretrained, tmp_path / "recorded", recording)
    actor = PlannerActor(str(recorded.path), workers=2, device="cpu", threads=1)

    async def ask() -> list:
        return await asyncio.gather(actor.plan(context(3, 1), 0), actor.plan(context(2, 2), 1))

    answers = asyncio.run(ask())
    np.testing.assert_array_equal(answers[0].records.batch_row, [0, 1, 2])
    np.testing.assert_array_equal(answers[1].records.batch_row, [3, 4])
    for answer, asked in zip(answers, (context(3, 1), context(2, 2)), strict=True):
        np.testing.assert_array_equal(answer.records.keys, asked.keys)
        np.testing.assert_array_equal(answer.records.observations, asked.observations)
        assert set(answer.records.batch_rows) == {5}
        assert answer.records.utilities.shape == (len(asked), 4)


def test_planner_does_not_wait_for_ever_for_company(run):
    actor = PlannerActor(str(run.path), workers=2, device="cpu", threads=1)
    assert asyncio.run(actor.plan(context(3, 1), 0)).actions.shape == (3, 1)
    assert actor._wait_total >= 0.002


def test_planner_gathers_while_it_computes(run):
    """The first request leaves alone (it is as large as a batch gets); four come meanwhile and leave as one batch."""
    actor = PlannerActor(str(run.path), workers=2, device="cpu", threads=1)

    async def ask() -> None:
        first = asyncio.ensure_future(actor.plan(context(6, 1), 0))
        await asyncio.sleep(0)
        await asyncio.gather(first, *(actor.plan(context(1, seed), seed % 2) for seed in range(2, 6)))

    asyncio.run(ask())
    assert (actor._batches, actor._rows) == (2, 10)


def test_a_batch_is_full_unless_a_request_was_under_way_when_it_left(run):
    actor = PlannerActor(str(run.path), workers=2, device="cpu", threads=1)

    async def ask(sent: float | None) -> float:
        await actor.plan(context(6, 1), 0)
        await actor.plan(context(2, 2), 1, sent)
        return actor.values()["batch_fill"]

    assert asyncio.run(ask(None)) == 1.0
    # Sent an hour ago: all three batches before it (two of the first call, one of this) left without its 2 rows.
    assert asyncio.run(ask(time.time() - 3600.0)) == pytest.approx((6 + 2) / (6 + 2 + 2 * 3))
    assert asyncio.run(ask(None)) == 1.0


def test_an_error_of_the_planner_reaches_who_asked_and_the_next_is_answered(run):
    actor = PlannerActor(str(run.path), workers=1, device="cpu", threads=1)
    bad = context(1, 1)
    bad.observations[0, 0, 0] = np.nan

    async def ask() -> np.ndarray:
        with pytest.raises(UserError, match="not finite"):
            await actor.plan(bad, 0)
        return (await actor.plan(context(1, 1), 0)).actions

    assert np.isfinite(asyncio.run(ask())).all()


def test_replay_acknowledges_only_after_a_sync_and_shares_syncs(pretrained, tmp_path):
    run = prepare(pretrained, tmp_path / "run", finetune_config(pretrained, {}))
    actor = ReplayActor(str(run.path), run.config(), Task.from_checkpoint(load_checkpoint(run)[1]), {})
    events: list[str] = []
    append, sync = actor._keeper.append, actor._keeper.sync
    actor._keeper.append = lambda fragments: (events.append("append"), append(fragments))[1]
    actor._keeper.sync = lambda: (events.append("sync"), sync())[1]

    async def add(worker: int) -> None:
        fragment = make_fragment(0, 0, 3, worker=worker, observation_dim=4, action_dim=1)
        assert await actor.add([fragment]) == 3
        assert "sync" in events[len(events) - 1 - events[::-1].index("append") :]
        events.append("answer")

    async def everyone() -> None:
        await asyncio.gather(*(add(worker) for worker in range(10)))
        fragments, _ = await actor.exchange(0, {"btm": 0, "critic": 0})
        assert len(fragments) == 10
        await actor.close()

    asyncio.run(everyone())
    assert events.count("append") == 10
    assert events.count("sync") <= 4


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nobody_answers_is_one_clear_line(address):
    with pytest.raises(UserError, match=f"RAY_ADDRESS={address}: .*answers there"):
        join(address)
