"""What batches are made of."""

import numpy as np
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.sac.trainer import SacTrainer
from m3pc_ray.trajectories.episodes import EpisodeEnd
from tests.sac.factory import ECHO, HIGH, LOW, offline_episodes, tiny_rlpd, tiny_sac


@pytest.fixture(scope="module")
def trainer():
    trainer = SacTrainer(ECHO, 0, tiny_rlpd(learning_starts=150), offline_episodes(5))
    trainer.learn(120)
    return trainer


@pytest.mark.parametrize("size, offline", [(64, 32), (7, 4), (2, 1)])
def test_half_of_each_batch_is_offline(trainer, size, offline):
    for _ in range(20):
        rewards = trainer.model.replay_buffer.sample(size).rewards[:, 0].numpy()
        assert len(rewards) == size
        assert (rewards >= 100).sum() == offline  # what was earned online is negative
        assert (rewards[: size - offline] < 0).all()


@pytest.mark.parametrize("fraction, offline", [(0.0, 0), (0.25, 8), (1.0, 32)])
def test_other_fractions(fraction, offline):
    trainer = SacTrainer(ECHO, 0, tiny_sac(learning_starts=50, offline_fraction=fraction), offline_episodes(5))
    trainer.learn(30)
    assert (trainer.model.replay_buffer.sample(32).rewards >= 100).sum() == offline


def test_offline_rows_are_the_data_and_time_limits_bootstrap(trainer):
    data = offline_episodes(5)
    buffer = trainer.model.replay_buffer
    following = data.next_observations()
    seen = set()
    for _ in range(60):
        batch = buffer.sample(32)
        for row in range(16, 32):
            step = int(batch.rewards[row, 0]) - 100
            seen.add(step)
            np.testing.assert_array_equal(batch.observations[row], data.observations[step])
            np.testing.assert_array_equal(batch.next_observations[row], following[step])
            np.testing.assert_allclose(
                LOW + (batch.actions[row].numpy() + 1) / 2 * (HIGH - LOW), data.actions[step], rtol=1e-5, atol=1e-5
            )
            assert batch.dones[row, 0] == (step == 4)  # the terminated one; neither time limit (9) nor cut (14)
    assert seen == set(range(19))  # all but the last, whose successor nobody saw


def test_online_rows_bootstrap_at_the_time_limit_and_not_after_a_termination(trainer):
    data = trainer.trajectories("x")
    last_rows = data.episode_starts[1:] - 1
    kinds = dict(zip(last_rows.tolist(), data.episode_ends.tolist(), strict=True))
    assert {EpisodeEnd.TERMINATED, EpisodeEnd.TIME_LIMIT} <= set(kinds.values())
    seen = set()
    for _ in range(60):
        batch = trainer.model.replay_buffer.sample(32)
        for row in range(16):
            (step,) = np.flatnonzero((data.observations == batch.observations[row].numpy()).all(axis=1))
            np.testing.assert_array_equal(batch.next_observations[row], data.next_observations()[step])
            assert batch.dones[row, 0] == (kinds.get(step) == EpisodeEnd.TERMINATED)
            seen.add(kinds.get(step))
    assert {EpisodeEnd.TERMINATED, EpisodeEnd.TIME_LIMIT} <= seen


def test_data_without_actions_or_of_another_environment_are_refused():
    data = offline_episodes(0)
    with pytest.raises(UserError, match="no step has its action"):
        SacTrainer(ECHO, 0, tiny_rlpd(), data.without_actions(range(4)))
    with pytest.raises(UserError, match="offline comes from .*Echo-v0; SAC on Pendulum-v1 cannot use it"):
        SacTrainer("Pendulum-v1", 0, tiny_rlpd(), data)
