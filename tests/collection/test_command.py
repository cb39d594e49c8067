"""`m3pc data collect` as a user types it."""

import json

import numpy as np
import pytest

from m3pc_ray import cli
from m3pc_ray.collection.expert_data import EXPERTS
from m3pc_ray.commands import _collect
from m3pc_ray.sac import library
from m3pc_ray.trajectories.resolve import load
from tests.tiny_run import make_tiny_run

PENDULUM = [
    *("data", "collect", "--environment", "Pendulum-v1", "--return", "-1900", "--steps-medium", "400", "--seed", "1"),
    *("--max-steps", "600", "--evaluate-every", "230", "--evaluation-episodes", "2", "--sac.learning_starts", "200"),
    *("--sac.hidden_width", "16", "--sac.batch_size", "32"),
]


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collected") / "pendulum"
    assert cli.main([*PENDULUM, "--out", str(folder)]) == 0
    return folder


def mistake(capsys, *words: str) -> str:
    assert cli.main(["data", "collect", *words]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("m3pc: error: ").strip()


def test_pendulum_by_raw_returns(collected, capsys):
    medium, replay = load(str(collected / "medium")), load(str(collected / "medium-replay.hdf5"))
    assert (medium.num_steps, medium.num_episodes) == (400, 2)
    assert replay.num_steps == 230
    assert replay.lengths.tolist() == [200, 30]
    assert np.abs(medium.actions).max() <= 2.0
    assert np.ptp(replay.actions) > 3.0
    command = json.loads((collected / "recipe.json").read_text())["sittings"][0]["command"]
    assert "--return -1900.0" in command
    assert "--sac.batch_size 32" in command
    assert cli.main([*PENDULUM, "--out", str(collected)]) == 0  # done already
    assert f"{collected / 'medium'}: 2 episodes, 400 steps, mean return" in capsys.readouterr().out


def test_a_saved_sac_plays(collected, tmp_path, capsys):
    for name, more in (("a", []), ("b", ["--noise", "0.3"]), ("c", ["--stochastic"])):
        words = ["data", "collect", "--agent", str(collected), "--episodes", "3", *more]
        assert cli.main([*words, "--out", str(tmp_path / name)]) == 0
    sets = {name: load(str(tmp_path / name / "rollouts")) for name in "abc"}
    assert all(data.num_episodes == 3 and data.num_steps == 600 for data in sets.values())
    assert len({float(data.actions.std()) for data in sets.values()}) == 3
    for data in sets.values():
        np.testing.assert_array_equal(data.observations[0], sets["a"].observations[0])
    assert "rollouts: 3 episodes, 600 steps" in capsys.readouterr().out
    assert json.loads((tmp_path / "b" / "recipe.json").read_text())["asked"]["noise"] == 0.3


def test_a_run_plays(tmp_path):
    run = make_tiny_run(tmp_path / "run")
    words = ["data", "collect", "--agent", str(run.path), "--planner", "none", "--episodes", "3"]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    data = load(str(tmp_path / "out" / "rollouts.hdf5"))
    assert (data.num_episodes, data.metadata.environment_id) == (3, "Hopper-v4")
    asked = json.loads((tmp_path / "out" / "recipe.json").read_text())["asked"]
    assert (asked["policy"], asked["planner"], asked["checkpoint"]) == ("m3pc", "none", 7)


def test_every_expert_is_explained():
    for name in EXPERTS:
        assert f"{name} " in _collect.EXPERTS


def test_mistakes_are_one_line(collected, tmp_path, capsys, monkeypatch):
    out = ["--out", str(tmp_path / "out")]
    assert "required" in mistake(capsys, *out)
    assert "either --level or --return" in mistake(capsys, "--environment", "Pendulum-v1", *out)
    sac = ["--environment", "Pendulum-v1", "--return", "-100", *out]
    assert mistake(capsys, *sac, "--noise", "0.1") == "--noise: belongs to --agent and --expert, not to --environment"
    assert "sac.discount: must be a number, not much" in mistake(capsys, *sac, "--sac.discount", "much")
    assert "sac.discount: must be in [0, 1]" in mistake(capsys, *sac, "--sac.discount", "2")
    assert "CartPole-v1: action space is Discrete" in mistake(
        capsys, "--environment", "CartPole-v1", "--return", "5", *out
    )
    assert (
        mistake(capsys, "--agent", str(collected), *out) == "--agent needs --episodes, the number of episodes to play"
    )
    agent = ["--agent", str(collected), "--episodes", "2", *out]
    assert "--level: belongs to --environment" in mistake(capsys, *agent, "--level", "0.5")
    assert "--sac.polyak: belongs to --environment" in mistake(capsys, *agent, "--sac.polyak", "1")
    assert "which does not plan" in mistake(capsys, *agent, "--planner", "none")
    assert "no such folder" in mistake(capsys, "--agent", str(tmp_path / "x"), "--episodes", "2", *out)
    assert "--clumsiness: belongs to --expert" in mistake(capsys, *agent, "--clumsiness", "0.01")
    expert = ["--expert", "lift", *out]
    assert "--expert needs --episodes" in mistake(capsys, *expert)
    assert "--stochastic: belongs to --agent, not to --expert" in mistake(capsys, *expert, "--stochastic")
    assert "--clumsiness is 2; it must be from 0 to 0.1" in mistake(
        capsys, *expert, "--episodes", "2", "--clumsiness", "2"
    )
    assert "--hesitation is 2; it must be from 0 to 1, a chance" in mistake(
        capsys, *expert, "--episodes", "2", "--hesitation", "2"
    )
    unknown = mistake(capsys, "--expert", "juggle", "--episodes", "2", *out)
    assert unknown == f"--expert is juggle; it must be one of {', '.join(EXPERTS)}"
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(library.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'm3pc-ray[baselines]'" in mistake(capsys, *agent)
