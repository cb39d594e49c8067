"""Training from the first step to a saved policy."""

import dataclasses
import random

import numpy as np
import pytest
import torch

from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.evaluate import run_episodes
from m3pc_ray.sac import library
from m3pc_ray.sac.policy import SacPolicy
from m3pc_ray.sac.settings import SacSettings
from m3pc_ray.sac.trainer import SacTrainer
from m3pc_ray.trajectories.episodes import EpisodeEnd
from tests.sac.factory import ECHO, HIGH, LOW, TIME_LIMIT, offline_episodes, tiny_rlpd, tiny_sac

OBSERVATIONS = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)


def weights(trainer: SacTrainer) -> torch.Tensor:
    return torch.cat([value.flatten() for value in trainer.model.policy.state_dict().values()])


def until_an_episode_ends(trainer: SacTrainer, after: int) -> None:
    trainer.learn(after)
    while not trainer.episode_ended:
        trainer.learn(trainer.steps + 1)


def test_plain_sac_is_the_librarys():
    """Built by hand with the same arguments, the library comes to the same weights."""
    from stable_baselines3 import SAC

    from m3pc_ray.sac.trainer import _Remembering, make_environment

    settings = tiny_sac()
    trainer = SacTrainer(ECHO, 7, settings)
    trainer.learn(60)
    theirs = SAC(
        "MlpPolicy",
        _Remembering(make_environment(ECHO)),
        buffer_size=1000,
        learning_starts=20,
        batch_size=16,
        policy_kwargs={"net_arch": [8, 8], "optimizer_kwargs": {"fused": True}},
        seed=7,
        device="cpu",
    ).learn(60)
    for one, other in zip(trainer.model.policy.parameters(), theirs.policy.parameters(), strict=True):
        assert torch.equal(one, other)
    assert trainer.updates == 40


@pytest.mark.parametrize("settings", [tiny_sac(), tiny_rlpd()])
def test_a_saved_training_goes_on_bit_for_bit(tmp_path, settings):
    offline = offline_episodes(1) if settings.update == "rlpd" else None
    whole, parted = (SacTrainer(ECHO, 3, settings, offline, folder) for folder in (None, tmp_path / "sac"))
    until_an_episode_ends(parted, 30)
    parted.save()
    np.random.rand(3), torch.rand(3), random.random()  # whatever else the process draws
    resumed = SacTrainer(ECHO, 3, settings, offline, tmp_path / "sac")
    assert (resumed.steps, resumed.updates, resumed.seconds) == (parted.steps, parted.updates, parted.seconds)
    for trainer in (whole, resumed):
        trainer.learn(70)
    assert torch.equal(weights(whole), weights(resumed))
    one, other = whole.trajectories("x"), resumed.trajectories("x")
    for field in ("observations", "actions", "rewards", "episode_starts", "episode_ends", "final_observations"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_stopped_in_mid_episode_it_saves_and_the_episode_counts_as_cut(tmp_path):
    def stop(steps: int, _mean_return: float) -> None:
        if steps == stopped_at:
            raise KeyboardInterrupt

    probe = SacTrainer(ECHO, 3, tiny_sac())
    probe.learn(40)
    while probe.episode_ended:
        probe.learn(probe.steps + 1)
    stopped_at = probe.steps
    trainer = SacTrainer(ECHO, 3, tiny_sac(), folder=tmp_path / "sac")
    with pytest.raises(KeyboardInterrupt):
        trainer.learn(100, stop)
    resumed = SacTrainer(ECHO, 3, tiny_sac(), folder=tmp_path / "sac")
    assert resumed.steps == stopped_at
    assert resumed.cuts == [stopped_at - 1]
    assert torch.equal(weights(resumed), weights(probe))
    resumed.learn(80)
    data = resumed.trajectories("x")
    cut = int(np.searchsorted(data.episode_starts, stopped_at)) - 1
    assert data.episode_starts[cut + 1] == stopped_at
    assert data.episode_ends[cut] == EpisodeEnd.CUT
    assert data.lengths.max() <= TIME_LIMIT
    resumed.save()  # remembers the cut
    assert SacTrainer(ECHO, 3, tiny_sac(), folder=tmp_path / "sac").cuts[:1] == [stopped_at - 1]


def test_checkpoints_come_by_themselves_at_ends_of_episodes(tmp_path):
    trainer = SacTrainer(ECHO, 0, tiny_sac(learning_starts=500), folder=tmp_path / "sac")
    trainer.checkpoint_seconds = 0.0
    trainer.learn(60)
    resumed = SacTrainer(ECHO, 0, tiny_sac(learning_starts=500), folder=tmp_path / "sac")
    assert resumed.episode_ended
    assert 60 - TIME_LIMIT <= resumed.steps <= 60
    assert resumed.cuts == []


def test_other_arguments_and_other_folders_are_refused(tmp_path):
    trainer = SacTrainer(ECHO, 0, tiny_sac(), folder=tmp_path / "sac")
    trainer.learn(25)
    trainer.save()
    with pytest.raises(UserError, match="was trained with seed = .*; name another folder"):
        SacTrainer(ECHO, 1, tiny_sac(), folder=tmp_path / "sac")
    with pytest.raises(UserError, match=r"sac.discount = 0.99, not 0.5"):
        SacTrainer(ECHO, 0, tiny_sac(discount=0.5), folder=tmp_path / "sac")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(UserError, match="not empty and no trained SAC"):
        SacTrainer(ECHO, 0, tiny_sac(), folder=tmp_path / "letters")
    with pytest.raises(UserError, match="no trained SAC there"):
        SacPolicy.load(tmp_path / "letters")
    with pytest.raises(UserError, match="no folder to save in"):
        SacTrainer(ECHO, 0, tiny_sac()).save()


def test_actions_are_in_the_environments_units_everywhere(tmp_path):
    trainer = SacTrainer(ECHO, 0, tiny_sac(), folder=tmp_path / "sac")
    trainer.learn(60)
    data = trainer.trajectories("x")
    executed = data.next_observations()[:, :2]  # the environment's next observation is the action it was given
    np.testing.assert_allclose(data.actions, executed, rtol=1e-5, atol=1e-5)
    assert (data.actions >= LOW).all()
    assert (data.actions <= HIGH).all()
    assert (np.ptp(data.actions, axis=0) > 0.5 * (HIGH - LOW)).all()
    policy = trainer.policy()
    actions = policy(OBSERVATIONS)
    expected, _ = trainer.model.predict(OBSERVATIONS, deterministic=True)
    np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-5)
    trainer.save()
    np.testing.assert_array_equal(SacPolicy.load(tmp_path / "sac")(OBSERVATIONS), actions)
    trainer.learn(80)
    np.testing.assert_array_equal(policy(OBSERVATIONS), actions)  # a copy
    assert not np.array_equal(trainer.policy()(OBSERVATIONS), actions)


def test_what_the_agent_draws_does_not_depend_on_who_else_is_in_the_batch():
    policy = SacTrainer(ECHO, 0, tiny_sac()).policy()
    one, all_ = policy.agent(5), policy.agent(5)
    for step in range(3):
        start = step == 0
        alone = one.plan(OBSERVATIONS[:1], start, False, rows=[2], streams=[42]).actions
        among = all_.plan(OBSERVATIONS[:3], start, False, rows=[1, 2, 3], streams=[7, 42, 3]).actions
        same = all_.policy.unit(OBSERVATIONS[:1])
        assert not np.allclose(alone, same)
        assert not np.allclose(alone, among[1])  # another observation
        again = policy.agent(5)
        for _ in range(step + 1):
            repeated = again.plan(OBSERVATIONS[:1], _ == 0, False, rows=[0], streams=[42]).actions
        np.testing.assert_allclose(alone, repeated, rtol=1e-6)


def test_draws_have_the_actors_distribution():
    trainer = SacTrainer(ECHO, 0, tiny_sac())
    rows = np.repeat(OBSERVATIONS[:1], 20_000, axis=0)
    noise = np.random.default_rng(0).normal(size=(20_000, 2))
    ours = trainer.policy().unit(rows, noise)
    with torch.no_grad():
        theirs = trainer.model.actor(torch.as_tensor(rows)).numpy()
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=0.02)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), atol=0.02)


def test_it_learns(tmp_path):
    """The reward asks for the lowest actions."""
    from m3pc_ray.config import EvaluationConfig
    from m3pc_ray.environments.make import EnvironmentGroup

    trainer = SacTrainer(ECHO, 0, tiny_sac(learning_rate=1e-2, learning_starts=50, entropy_per_dimension=-2.0))
    trainer.learn(350)
    with EnvironmentGroup(ECHO, 2) as group:
        episodes = run_episodes(trainer.policy().agent(), group, EvaluationConfig(episodes=10))
    assert (episodes.returns / episodes.lengths).mean() > -2.0  # at random: -6.75


def test_a_small_buffer_forgets_the_oldest_episodes():
    trainer = SacTrainer(ECHO, 0, tiny_sac(learning_starts=500, buffer_size=25))
    whole = SacTrainer(ECHO, 0, tiny_sac(learning_starts=500))
    for each in (trainer, whole):
        each.learn(60)
    kept, all_ = trainer.trajectories("x"), whole.trajectories("x")
    assert 25 - TIME_LIMIT <= kept.num_steps <= 25
    assert kept.num_episodes < all_.num_episodes
    np.testing.assert_array_equal(kept.observations, all_.observations[-kept.num_steps :])
    np.testing.assert_array_equal(kept.episode_ends, all_.episode_ends[-kept.num_episodes :])


def test_settings_out_of_range_and_a_missing_library(monkeypatch):
    with pytest.raises(UserError, match=r"sac.discount: must be in \[0, 1\], not 2"):
        SacSettings(discount=2)
    with pytest.raises(UserError, match="sac.target_critics: must equal sac.critics"):
        SacSettings(critics=5)
    with pytest.raises(UserError, match="at most sac.critics"):
        SacSettings.rlpd(target_critics=11)
    assert SacSettings(**SacSettings.rlpd(critics=4).to_json()) == SacSettings.rlpd(critics=4)
    assert dataclasses.replace(SacSettings.rlpd(), critics=3).target_critics == 2
    monkeypatch.setattr(library.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'm3pc-ray\[baselines\]'"):
        SacTrainer(ECHO)
