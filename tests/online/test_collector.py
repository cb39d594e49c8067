import numpy as np
import pytest

from m3pc_ray.config import OnlineConfig, RunConfig
from m3pc_ray.environments import EnvironmentGroup
from m3pc_ray.online.collector import Collector, episode_seed, episode_stream
from m3pc_ray.online.exploration import lease_size
from m3pc_ray.online.replay.decisions import Computation, DecisionRecords
from m3pc_ray.online.replay.fragments import EpisodeKey, Fragment
from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.planning.plan import PlanRecord
from m3pc_ray.trajectories.episodes import EpisodeEnd
from tests.online.factory import ENVIRONMENT, TIME_LIMIT


def collector(count: int = 2, seed: int = 0, fragment_steps: int = 4, environment: str = ENVIRONMENT) -> Collector:
    group = EnvironmentGroup(environment, count, time_limit=TIME_LIMIT)
    return Collector(
        3, 0, group, context_length=2, run_seed=seed, fragment_steps=fragment_steps, planner='{"guide": "none"}'
    )


def plan(context: PlanningContext) -> tuple[np.ndarray, int]:
    """A policy of the observation alone; the version is the number of calls so far."""
    plan.calls += 1
    rows = np.arange(len(context))
    current = context.observations[rows, context.positions]
    return np.tanh(current[:, 1:2] + 0.1).astype(np.float32), plan.calls


@pytest.fixture(autouse=True)
def _count():
    plan.calls = 0


def collect(it: Collector, tickets: int, policy) -> int:
    """Use so many tickets and flush; the steps taken."""
    it.tickets += tickets
    before = it.steps
    while (context := it.request()) is not None:
        it.act(*policy(context))
    it.flush()
    return it.steps - before


def episodes_of(fragments: list[Fragment]) -> dict[int, list[Fragment]]:
    found: dict[int, list[Fragment]] = {}
    for fragment in fragments:
        found.setdefault(fragment.key.episode, []).append(fragment)
    return found


def test_records_of_decisions_arrive_with_their_steps():
    it = collector(count=2)
    it.tickets = 25
    given: dict[tuple[int, int], DecisionRecords] = {}
    while (context := it.request()) is not None:
        actions, version = plan(context)
        batch = len(context)
        record = PlanRecord.of(np.float32(actions), np.zeros(batch, np.int64))
        records = DecisionRecords.of(context, record, Computation(version, 7, "float32", "cpu", 1))
        for row, key in enumerate(context.keys):
            given[int(key[1]), int(key[2])] = records.rows(row, row + 1)
        it.act(actions, version, records)
    it.flush()
    fragments = it.take_fragments()
    assert sum(fragment.num_steps for fragment in fragments) == 25 == len(given)
    for fragment in fragments:
        assert fragment.decisions is not None
        for row, step in enumerate(range(fragment.offset, fragment.offset + fragment.num_steps)):
            expected = given[episode_stream(fragment.key), int(step)]
            for name, value in vars(fragment.decisions.rows(row, row + 1)).items():
                np.testing.assert_array_equal(value, getattr(expected, name), err_msg=name)
            current = expected.observations[0, min(step, 2)]
            np.testing.assert_array_equal(current, fragment.observations[row])
            np.testing.assert_allclose(fragment.actions[row], 3 * expected.utilities[0], atol=1e-6)
        assert fragment.weight_versions[0] == fragment.decisions.weight_version.min()


def test_fragments_tell_what_happened_in_the_environment():
    it = collector()
    assert collect(it, 57, plan) == 57
    fragments = it.take_fragments()
    assert sum(fragment.num_steps for fragment in fragments) == 57
    assert it.take_fragments() == []
    replayed = EnvironmentGroup(ENVIRONMENT, 1, time_limit=TIME_LIMIT)
    closed = 0
    for episode, parts in episodes_of(fragments).items():
        observation = replayed.reset(0, seed=parts[0].reset_seed)
        assert parts[0].reset_seed == episode_seed(0, EpisodeKey(3, 0, episode))
        offset = 0
        for part in parts:
            assert part.offset == offset
            assert 0 < part.num_steps <= 4
            assert part.weight_versions[1] - part.weight_versions[0] == part.num_steps - 1
            for step in range(part.num_steps):
                np.testing.assert_array_equal(part.observations[step], observation)
                assert abs(part.actions[step]) <= 3.0
                np.testing.assert_allclose(
                    part.actions[step], 3 * np.tanh(observation[1:2] + 0.1), rtol=1e-5, atol=1e-6
                )
                transition = replayed.step(part.actions[step : step + 1])
                observation = transition.observations[0]
                assert part.rewards[step] == transition.rewards[0]
            np.testing.assert_array_equal(part.final_observation, observation)
            offset += part.num_steps
        ends = [part.end for part in parts]
        assert ends[:-1] == [None] * (len(parts) - 1)
        if transition.terminated[0]:
            assert ends[-1] == EpisodeEnd.TERMINATED
            closed += 1
        else:
            assert ends[-1] is None
    assert closed >= 3


def test_the_time_limit_is_not_a_termination():
    it = collector(count=1, environment="Pendulum-v1")
    collect(it, TIME_LIMIT + 5, lambda context: (np.zeros((1, 1), np.float32), 0))
    ends = [fragment.end for fragment in it.take_fragments() if fragment.end is not None]
    assert ends == [EpisodeEnd.TIME_LIMIT]
    finished = it.take_finished()
    assert [(episode.length, episode.end) for episode in finished] == [(TIME_LIMIT, EpisodeEnd.TIME_LIMIT)]


def test_an_odd_number_of_tickets_is_met_exactly():
    it = collector(count=3)
    sizes = []

    def counted(context: PlanningContext) -> tuple[np.ndarray, int]:
        sizes.append(len(context))
        return np.zeros((len(context), 1), np.float32), 0

    assert collect(it, 8, counted) == 8
    assert sizes == [3, 3, 2]
    assert it.request() is None


def test_a_budget_that_ends_in_mid_episode_closes_it_as_cut():
    it = collector(count=2, fragment_steps=100)
    collect(it, 5, lambda context: (np.zeros((len(context), 1), np.float32), 9))
    sent = it.take_fragments()
    assert [fragment.end for fragment in sent] == [None, None]
    it.close_episodes()
    closing = it.take_fragments()
    assert [(f.num_steps, f.offset, f.end) for f in closing] == [(0, 3, EpisodeEnd.CUT), (0, 2, EpisodeEnd.CUT)]
    assert [episode.length for episode in it.take_finished()] == [3, 2]
    it.close_episodes()
    assert it.take_fragments() == []  # the new episodes have no step


def test_same_seed_same_fragments_other_seed_others():
    def collected(seed: int) -> list[Fragment]:
        it = collector(seed=seed)
        collect(it, 30, plan)
        return it.take_fragments()

    first, again, other = collected(0), collected(0), collected(1)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.observations, two.observations)
    assert not np.array_equal(first[0].observations, other[0].observations)


def test_every_decision_has_a_key_of_its_own():
    it = collector(count=3)
    seen: list[tuple] = []

    def remember(context: PlanningContext) -> tuple[np.ndarray, int]:
        seen.extend(map(tuple, context.keys.tolist()))
        return np.ones((len(context), 1), np.float32), 0

    collect(it, 200, remember)
    assert len(set(seen)) == 200
    streams = {episode_stream(EpisodeKey(w, i, e)) for w in range(3) for i in range(3) for e in range(3)}
    assert len(streams) == 27
    assert min(streams) >= 1 << 63


@pytest.mark.parametrize(
    "workers, environments, tolerance, steps",
    [
        (2, 2, 400, 50),  # a quarter of a worker's share of the tolerance
        (4, 16, 400, 16),  # of 25, whole rounds
        (4, 16, 100, 6),  # not a round
        (4, 16, 10**6, 800),  # a fragment of every environment
        (8, 1, 8, 1),
    ],
)
def test_a_lease_is_of_whole_rounds(workers, environments, tolerance, steps):
    online = OnlineConfig(
        rollout_workers=workers, environments_per_worker=environments, rate_tolerance_steps=tolerance, fragment_steps=50
    )
    assert lease_size(RunConfig(online=online)) == steps


def test_two_lanes_in_turn_take_the_same_episodes_as_one():
    def by_key(count: int) -> dict[EpisodeKey, np.ndarray]:
        it = collector(count=3)
        it.set_lanes(count)
        assert it.lanes == count
        it.tickets = 3 * 20
        asked = {lane: context for lane in range(count) if (context := it.request(lane)) is not None}
        assert sorted(len(context) for context in asked.values()) == ([3] if count == 1 else [1, 2])
        while asked:  # always the lane that was asked first, while the others' answers are under way
            lane = next(iter(asked))
            actions, _ = plan(asked.pop(lane))
            it.act(actions, 0, lane=lane)
            if (context := it.request(lane)) is not None:
                asked[lane] = context
        it.flush()
        assert it.steps == 60
        episodes: dict[EpisodeKey, list[np.ndarray]] = {}
        for fragment in it.take_fragments():
            episodes.setdefault(fragment.key, []).append(fragment.observations)
        return {key: np.concatenate(parts) for key, parts in episodes.items()}

    one, two = by_key(1), by_key(2)
    first = [EpisodeKey(3, 0, number) for number in range(3)]  # later ones are numbered in the order they begin
    for key in first:
        steps = min(len(one[key]), len(two[key]))
        assert steps > 1
        np.testing.assert_array_equal(one[key][:steps], two[key][:steps])


def test_there_are_no_more_lanes_than_environments():
    it = collector(count=1)
    it.set_lanes(2)
    assert it.lanes == 1


def test_what_a_plan_has_left_comes_with_the_next_request():
    it = collector(count=3)
    it.tickets = 3 * 6
    left: dict[int, np.ndarray] = {}
    asked = 0
    while (context := it.request()) is not None:
        for row, timestep in enumerate(context.timesteps):
            if timestep == 0:
                assert context.previous is None or np.isnan(context.previous[row]).all()
            else:
                np.testing.assert_array_equal(context.previous[row], left[row])
                asked += 1
        actions, version = plan(context)
        rest = np.random.default_rng(version).normal(size=(len(context), 4, 1)).astype(np.float32)
        left = dict(enumerate(rest))
        it.act(actions, version, rest=rest)
    assert asked >= 9
