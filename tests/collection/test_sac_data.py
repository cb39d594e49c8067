"""SAC to a level and what is written then."""

import json

import h5py
import numpy as np
import pytest

from m3pc_ray.collection import sac_data
from m3pc_ray.collection.sac_data import SacData, collect_sac_data
from m3pc_ray.errors import UserError
from m3pc_ray.sac.trainer import SacTrainer
from m3pc_ray.trajectories.d4rl import read_hdf5
from m3pc_ray.trajectories.episodes import EpisodeEnd
from m3pc_ray.trajectories.store import read_store
from tests.sac.factory import ECHO, TIME_LIMIT, tiny_sac

FIELDS = ("observations", "actions", "rewards", "episode_starts", "episode_ends", "final_observations")


def request(**changes) -> SacData:
    """A level that any policy has; trained for 60 steps, since the first evaluation comes then."""
    asked = {"raw_return": -1000.0, "steps_medium": 50, "max_steps": 300, "evaluate_every": 60, "seed": 2}
    return SacData(ECHO, settings=tiny_sac(), **{**asked, "evaluation_episodes": 4, **changes})


def make(folder, asked: SacData, report=lambda *_: None) -> dict:
    return collect_sac_data(asked, folder, "m3pc data collect ...", report).content


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collect") / "out"
    make(folder, request())
    return folder


def test_stores_and_files_hold_the_same_and_are_read_like_any_other(made):
    for name in ("medium", "medium-replay"):
        store, file = read_store(made / name), read_hdf5(made / f"{name}.hdf5")
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(store, field), getattr(file, field))
        assert store.metadata == file.metadata
        assert store.metadata.environment_id == ECHO
        assert store.metadata.name == f"echo-v0-{name}-s2"
        assert "Stable-Baselines3" in store.metadata.origin
        assert store.metadata.versions["stable_baselines3"]
    assert read_store(made / "medium").num_steps >= 50
    assert not (made / "episodes").exists()


def test_other_readers_see_time_limits_as_timeouts(made, tmp_path):
    """Without our group, the flags alone must say the same."""
    for name in ("medium", "medium-replay"):
        ours = read_store(made / name)
        with h5py.File(made / f"{name}.hdf5") as file:
            copied = {key: file[key][()] for key in file if key != "m3pc"}
            told = dict(file.attrs)
        assert set(copied) == {"observations", "actions", "rewards", "terminals", "timeouts", "next_observations"}
        last_rows = ours.episode_starts[1:] - 1
        np.testing.assert_array_equal(np.flatnonzero(copied["terminals"] | copied["timeouts"]), last_rows)
        limit = ours.episode_ends == EpisodeEnd.TIME_LIMIT
        assert limit.any()
        assert copied["timeouts"][last_rows[limit]].all()
        assert not copied["terminals"][last_rows[limit]].any()
        with h5py.File(tmp_path / f"{name}.hdf5", "w") as file:
            for key, values in copied.items():
                file[key] = values
        bare = read_hdf5(tmp_path / f"{name}.hdf5", ECHO)
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(bare, field), getattr(ours, field))
        assert {"algorithm", "hyperparameters", "versions", "kind", "train_seed", "stop_step"} <= set(told)


def test_medium_replay_is_what_sac_learnt_from(made):
    trainer = SacTrainer(ECHO, 2, tiny_sac())
    trainer.learn(60)
    expected, found = trainer.trajectories("x"), read_store(made / "medium-replay")
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(expected, field), getattr(found, field))
    assert found.num_steps == 60


def test_medium_is_drawn_from_the_saved_policy(made):
    from m3pc_ray.sac.policy import SacPolicy

    policy, data = SacPolicy.load(made / "sac"), read_store(made / "medium")
    first = data.observations[:1]
    noise = np.random.default_rng([2, 3_000_000, 22]).standard_normal(2)  # agent's seed, reset seed, SacAgent's word
    from m3pc_ray.environments.actions import to_environment_range

    expected = to_environment_range(policy.unit(first, noise[None]), policy.action_low, policy.action_high)
    np.testing.assert_allclose(data.actions[:1], expected, rtol=1e-5, atol=1e-5)


def test_the_recipe_says_everything_and_a_finished_one_is_left_alone(made):
    content = json.loads((made / "recipe.json").read_text())
    assert content["status"] == "finished"
    assert [row["steps"] for row in content["evaluations"]] == [60]
    assert content["evaluations"][0]["updates"] == 40
    assert content["asked"]["sac"]["batch_size"] == 16
    assert content["sittings"][0]["command"].startswith("m3pc data collect")
    assert content["datasets"]["medium-replay"]["steps"] == 60
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.name != ".lock"}
    make(made, request(), lambda *_: pytest.fail("nothing is left to do"))
    assert before == {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.name != ".lock"}


@pytest.mark.parametrize("phase", ["training", "evaluation", "medium"])
def test_interrupted_anywhere_the_same_call_goes_on(made, tmp_path, phase):
    def stop(now: str, done: int, _total: int, _words: str) -> None:
        if now == phase and done >= {"training": 33, "evaluation": 2, "medium": 30}[phase]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out", request(), stop)
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["status"] == "interrupted"
    assert SacTrainer(ECHO, 2, tiny_sac(), folder=tmp_path / "out" / "sac").steps == (33 if phase == "training" else 60)
    content = make(tmp_path / "out", request())
    assert (content["status"], len(content["sittings"])) == ("finished", 2)
    replay, whole = read_store(tmp_path / "out" / "medium-replay"), read_store(made / "medium-replay")
    assert replay.num_steps == 60
    np.testing.assert_array_equal(replay.observations[:33], whole.observations[:33])
    if phase != "training":  # it was stopped in mid-episode there, so another one follows
        np.testing.assert_array_equal(replay.actions, whole.actions)
        one, other = read_store(tmp_path / "out" / "medium"), read_store(made / "medium")
        np.testing.assert_allclose(one.actions, other.actions, rtol=1e-5, atol=1e-5)
    assert replay.lengths.max() <= TIME_LIMIT


def test_a_level_out_of_reach_ends_with_advice_and_more_steps_go_on(tmp_path, monkeypatch):
    asked = request(raw_return=1.0, max_steps=100)  # rewards are negative
    with pytest.raises(UserError, match=r"return of 1.0 was not reached within 100 steps; .* larger --max-steps"):
        make(tmp_path / "out", asked)
    content = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert content["status"] == "failed"
    assert [row["steps"] for row in content["evaluations"]] == [60, 100]
    plain = sac_data.run_episodes

    def better(*arguments):
        episodes = plain(*arguments)
        episodes.returns[:] = 2.0
        return episodes

    monkeypatch.setattr(sac_data, "run_episodes", better)
    content = make(tmp_path / "out", request(raw_return=1.0, max_steps=200))
    assert [row["steps"] for row in content["evaluations"]] == [60, 100, 120]
    assert read_store(tmp_path / "out" / "medium-replay").num_steps == 120


def test_other_requests_and_other_folders_are_refused(made, tmp_path):
    with pytest.raises(UserError, match="is being collected with steps_medium = 50, not 60; repeat"):
        make(made, request(steps_medium=60))
    with pytest.raises(UserError, match=r"with sac.batch_size = 16, not 8"):
        make(made, SacData(ECHO, **{**_fields(request()), "settings": tiny_sac(batch_size=8)}))
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(UserError, match="not empty and no collected data"):
        make(tmp_path / "letters", request())
    with pytest.raises(UserError, match="either --level or --return"):
        SacData(ECHO)
    with pytest.raises(UserError, match="--level: .*Echo-v0 has no reference scores; give --return"):
        make(tmp_path / "out", SacData(ECHO, level=0.3))
    with pytest.raises(UserError, match="raise --sac.buffer_size"):
        request(max_steps=2000)
    with pytest.raises(UserError, match="--evaluate-every is 0"):
        request(evaluate_every=0)


def test_levels_are_fractions_of_the_reference_scores():
    wanted = SacData("Hopper-v4", level=0.4).wanted_return()
    assert wanted == pytest.approx(-20.272305 + 0.4 * (3234.3 + 20.272305))


def _fields(asked: SacData) -> dict:
    return {name: value for name, value in vars(asked).items() if name != "environment"}
