"""Episodes of a policy: which they are, what they hold, and that an interrupted collection goes on."""

import numpy as np
import pytest

from m3pc_ray.collection.policy_source import PolicySource
from m3pc_ray.collection.rollouts import EpisodeFolder, Wanted, collect
from m3pc_ray.errors import UserError
from m3pc_ray.sac.trainer import SacTrainer
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from tests.sac.factory import ECHO, HIGH, LOW, TIME_LIMIT, tiny_sac

FIELDS = ("observations", "actions", "rewards", "episode_starts", "episode_ends", "final_observations")


@pytest.fixture(scope="module")
def policy():
    return SacTrainer(ECHO, 0, tiny_sac()).policy()


def source_of(policy, parallel: int = 3, **changes) -> PolicySource:
    settings = {"seed": 5, "deterministic": False, "parallel": parallel, **changes}
    return PolicySource(policy.agent(1), ECHO, {"policy": "test"}, **settings)


def play(source: PolicySource, wanted: Wanted, path, progress=lambda *_: None) -> Trajectories:
    return collect(source, wanted, EpisodeFolder(path), source.metadata, progress)


def assert_same(one: Trajectories, other: Trajectories) -> None:
    for field in FIELDS:
        # Products of other batch sizes round differently.
        np.testing.assert_allclose(getattr(one, field), getattr(other, field), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_who_plays_beside_an_episode_does_not_matter(policy, tmp_path, noise):
    alone = play(source_of(policy, 1, noise=noise), Wanted(episodes=12), tmp_path / "1")
    beside = play(source_of(policy, 5, noise=noise), Wanted(episodes=12), tmp_path / "5")
    assert alone.num_episodes == 12
    assert_same(alone, beside)
    other = play(source_of(policy, 1, noise=noise, seed=6), Wanted(episodes=12), tmp_path / "other")
    assert not np.array_equal(alone.observations[0], other.observations[0])
    np.testing.assert_array_equal(other.observations[0], alone.observations[alone.episode_starts[1]])  # seed 5 + 1


def test_steps_are_counted_in_whole_episodes(policy, tmp_path):
    data = play(source_of(policy), Wanted(steps=40), tmp_path / "a")
    assert data.num_steps >= 40
    assert data.episode_starts[-2] < 40
    more = play(source_of(policy), Wanted(steps=60), tmp_path / "b")
    assert_same(data, more.select(range(data.num_episodes)))


def test_episodes_hold_what_happened(policy, tmp_path):
    data = play(source_of(policy), Wanted(episodes=40), tmp_path / "a")
    np.testing.assert_allclose(data.next_observations()[:, :2], data.actions, rtol=1e-6)  # Echo shows the action
    np.testing.assert_allclose(data.rewards, -(data.actions - LOW).sum(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(data.observations[data.episode_starts[:-1], :2], 0.0)
    assert set(data.episode_ends) == {EpisodeEnd.TERMINATED, EpisodeEnd.TIME_LIMIT}
    assert (data.lengths[data.episode_ends == EpisodeEnd.TIME_LIMIT] == TIME_LIMIT).all()
    assert data.metadata.max_episode_steps == TIME_LIMIT


def test_noise_moves_actions_within_their_bounds(policy, tmp_path):
    quiet = play(source_of(policy, deterministic=True), Wanted(episodes=30), tmp_path / "a")
    noisy = play(source_of(policy, deterministic=True, noise=0.3), Wanted(episodes=30), tmp_path / "b")
    np.testing.assert_allclose(quiet.actions, policy(quiet.observations), rtol=1e-4, atol=1e-4)
    moved = (noisy.actions - policy(noisy.observations)) / ((HIGH - LOW) / 2)
    assert moved.std() == pytest.approx(0.3, rel=0.15)
    loud = play(source_of(policy, deterministic=True, noise=5.0), Wanted(episodes=5), tmp_path / "c")
    assert (loud.actions >= LOW).all()
    assert (loud.actions <= HIGH).all()
    assert (np.isclose(loud.actions, LOW) | np.isclose(loud.actions, HIGH)).mean() > 0.5


def test_interrupted_it_goes_on_with_what_is_missing(policy, tmp_path):
    whole = play(source_of(policy), Wanted(episodes=20), tmp_path / "whole")

    def stop(episodes: int, _steps: int) -> None:
        if episodes >= 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(source_of(policy), Wanted(episodes=20), tmp_path / "parted", stop)
    (tmp_path / "parted" / "000019.partial").write_bytes(b"half")
    kept = EpisodeFolder(tmp_path / "parted").lengths
    assert len(kept) >= 9
    counted = []
    again = play(source_of(policy), Wanted(episodes=20), tmp_path / "parted", lambda *done: counted.append(done))
    assert_same(whole, again)
    assert counted[0][1] > sum(kept.values())
    assert counted[-1] == (20, whole.num_steps)  # nothing was played twice
    assert not list((tmp_path / "parted").glob("*.partial"))


def test_damaged_episodes_and_bad_requests_are_one_line(policy, tmp_path):
    play(source_of(policy), Wanted(episodes=2), tmp_path / "a")
    (tmp_path / "a" / "000001.npz").write_bytes(b"half")
    with pytest.raises(UserError, match=r"000001.npz: a damaged episode .*; remove it to play it again"):
        EpisodeFolder(tmp_path / "a")
    with pytest.raises(UserError, match="noise is -1"):
        source_of(policy, noise=-1.0)
    with pytest.raises(UserError, match="0 environments side by side"):
        source_of(policy, 0)
    with pytest.raises(UserError, match="must be above 0"):
        Wanted()


class GivesUp:
    """Passes an agent's actions on and gives every attempt up after some steps."""

    def __init__(self, agent, steps: int) -> None:
        self.agent, self.steps, self.taken = agent, steps, {}
        self.action_low, self.action_high = agent.action_low, agent.action_high

    def reset(self) -> None:
        self.taken.clear()

    def plan(self, observations, episode_start, deterministic, *, rows, streams):
        for row, start in zip(rows, episode_start, strict=True):
            self.taken[row] = 1 if start else self.taken[row] + 1
        return self.agent.plan(observations, episode_start, deterministic, rows=rows, streams=streams)

    def over(self, row: int) -> bool:
        return self.taken[row] >= self.steps


def test_an_attempt_that_is_given_up_is_over(policy, tmp_path):
    agent = GivesUp(policy.agent(1), 2)
    source = PolicySource(agent, ECHO, {"policy": "test"}, seed=5, deterministic=False, parallel=3)
    data = play(source, Wanted(episodes=20), tmp_path / "a")
    assert data.lengths.max() == 2
    assert data.terminated().sum() == 20
    whole = play(source_of(policy), Wanted(episodes=20), tmp_path / "b")
    assert (whole.lengths > 2).any()
    np.testing.assert_array_equal(data.lengths, whole.lengths.clip(max=2))


def test_an_attempt_given_up_at_the_time_limit_ends_by_it(policy, tmp_path):
    source = PolicySource(
        GivesUp(policy.agent(1), TIME_LIMIT), ECHO, {"policy": "test"}, seed=5, deterministic=False, parallel=3
    )
    data = play(source, Wanted(episodes=20), tmp_path / "a")
    whole = play(source_of(policy), Wanted(episodes=20), tmp_path / "b")
    assert (whole.episode_ends == EpisodeEnd.TIME_LIMIT).any()
    np.testing.assert_array_equal(data.episode_ends, whole.episode_ends)


def test_attempts_begin_alike_and_noise_may_vary(policy, tmp_path):
    pairs = play(source_of(policy, attempts=2, noise=0.5), Wanted(episodes=6), tmp_path / "a")
    usual = play(source_of(policy, noise=0.5), Wanted(episodes=3), tmp_path / "b")
    begins = pairs.observations[pairs.episode_starts[:-1]]
    np.testing.assert_array_equal(begins[::2], begins[1::2])
    np.testing.assert_array_equal(begins[::2], usual.observations[usual.episode_starts[:-1]])
    varied = play(
        source_of(policy, deterministic=True, noise=0.3, noise_varies=True), Wanted(episodes=60), tmp_path / "c"
    )
    moved = (varied.actions - policy(varied.observations)) / ((HIGH - LOW) / 2)
    ends = varied.episode_starts[1:-1]
    spread = np.array([part.std() for part in np.split(moved, ends)])
    assert spread.min() < 0.1
    assert 0.1 < np.sqrt(np.mean(moved**2)) < 0.24  # 0.3 / sqrt(3) = 0.17 of deviations spread evenly up to 0.3
