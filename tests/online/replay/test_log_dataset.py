"""A replay log becomes a data set: the same steps, ends as they were, and everything downstream takes it."""

import json

import numpy as np
import pytest

from m3pc_ray.cli import main
from m3pc_ray.commands.finetune import resume_finetune
from m3pc_ray.errors import UserError
from m3pc_ray.online.preparation import finetune_config, prepare
from m3pc_ray.online.replay.fragments import closing_fragment
from m3pc_ray.online.replay.log_dataset import read_dataset, replay_folder
from m3pc_ray.online.replay.replay_log import ReplayLog, read_log
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.episodes import EpisodeEnd
from m3pc_ray.trajectories.resolve import load
from tests.online.factory import ENVIRONMENT, TIME_LIMIT, make_fragment


@pytest.fixture(scope="module")
def finished(pretrained, tmp_path_factory) -> RunFolder:
    settings = {"online.evaluate_every": "0", "online.steps": "120"}
    run = prepare(pretrained, tmp_path_factory.mktemp("dataset") / "run", finetune_config(pretrained, settings))
    run.write_summary({"serial": True})
    resume_finetune(run.path, quiet=True)
    return run


def test_a_converted_log_is_a_data_set_like_any_other(finished, tmp_path, capsys):
    store = tmp_path / "store"
    assert main(["data", "convert", str(finished.path), str(store)]) == 0
    assert "120 steps" in capsys.readouterr().out
    data = load(str(store))
    assert (data.metadata.environment_id, data.metadata.max_episode_steps) == (ENVIRONMENT, TIME_LIMIT)
    assert data.metadata.name == "run-replay"
    assert "gymnasium" in data.metadata.versions

    fragments = list(read_log(finished.path / "replay"))
    keys = list(dict.fromkeys(fragment.key for fragment in fragments))
    assert data.num_episodes == len(keys)
    for episode, key in enumerate(keys):
        own = [fragment for fragment in fragments if fragment.key == key]
        rows = slice(data.episode_starts[episode], data.episode_starts[episode + 1])
        for name in ("observations", "actions", "rewards"):
            expected = np.concatenate([getattr(fragment, name) for fragment in own])
            np.testing.assert_array_equal(getattr(data, name)[rows], expected)
        assert data.episode_ends[episode] == own[-1].end
        np.testing.assert_array_equal(data.final_observations[episode], own[-1].final_observation)
    assert {EpisodeEnd.TERMINATED, EpisodeEnd.CUT} <= {EpisodeEnd(end) for end in data.episode_ends}

    assert (
        main(["data", "info", str(store), "--json", str(tmp_path / "i.json"), "--figure", str(tmp_path / "f.png")]) == 0
    )
    assert json.loads((tmp_path / "i.json").read_text())["rows"][0]["steps"] == 120
    out = tmp_path / "pretrained"
    small = ["--pretrain.steps", "2", "--pretrain.batch_size", "4", "--critic.updates", "2", "--critic.batch_size", "4"]
    small += ["--model.width", "16", "--model.heads", "2", "--device", "cpu"]
    assert main(["pretrain", "--dataset", str(store), "--out", str(out), *small]) == 0
    assert RunFolder.open(out).summary()["status"] == "finished"


def test_info_describes_a_run_without_converting_it(finished, tmp_path):
    command = ["data", "info", str(finished.path / "replay"), "--json", str(tmp_path / "i.json")]
    assert main([*command, "--figure", str(tmp_path / "f.png")]) == 0
    (row,) = json.loads((tmp_path / "i.json").read_text())["rows"]
    assert (row["environment"], row["steps"]) == (ENVIRONMENT, 120)


def test_episodes_interleaved_in_the_log_are_put_together(tmp_path):
    log = ReplayLog(tmp_path / "replay", 4, 1)
    sizes = {"observation_dim": 4, "action_dim": 1}
    parts = [make_fragment(0, 0, 2, **sizes), make_fragment(1, 0, 3, **sizes), make_fragment(0, 2, 1, **sizes)]
    log.append(parts)
    log.append([closing_fragment(parts[2], EpisodeEnd.TIME_LIMIT)])
    data = read_dataset(tmp_path / "replay", ENVIRONMENT)
    assert data.lengths.tolist() == [3, 3]
    assert data.episode_ends.tolist() == [EpisodeEnd.TIME_LIMIT, EpisodeEnd.CUT]  # the second goes on still
    np.testing.assert_array_equal(data.observations[2], parts[2].observations[0])
    np.testing.assert_array_equal(data.final_observations, [parts[2].final_observation, parts[1].final_observation])


def test_mistakes_are_one_line(tmp_path, finished, capsys):
    log = ReplayLog(tmp_path / "replay", 4, 1)
    log.append([make_fragment(0, 0, 2, observation_dim=4, action_dim=1, high=9.0)])
    with pytest.raises(UserError, match="does not name the environment .*give --environment ID"):
        read_dataset(tmp_path / "replay")
    with pytest.raises(UserError, match=r"replay: observations"):
        read_dataset(tmp_path / "replay", "Hopper-v4")
    with pytest.raises(UserError, match=r"replay: actions\[.*"):
        read_dataset(tmp_path / "replay", ENVIRONMENT)
    assert replay_folder(tmp_path / "nothing") is None
    assert main(["pretrain", "--dataset", str(finished.path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"m3pc data convert {finished.path} FOLDER" in error
