"""What the program in the other environment makes, against d3rlpy itself; skipped without `make compare-env`."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from m3pc_ray.comparison.compare_env import d3rlpy_program
from m3pc_ray.comparison.decision_transformer import DecisionTransformerAgent
from m3pc_ray.comparison.method import Assignment
from m3pc_ray.comparison.methods import d3rlpy
from m3pc_ray.comparison.registry import METHODS
from m3pc_ray.errors import UserError
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from tests.comparison.d3rlpy_walk import ENVIRONMENTS, walk
from tests.comparison.recorder import Recorder, nothing
from tests.tiny_run import random_hopper_episodes

CHECKS = Path(__file__).with_name("d3rlpy_checks.py")


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return d3rlpy.find_python()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def data() -> Trajectories:
    """Random Hopper episodes; one ends by the time limit, one is cut off and its last successor unknown."""
    trajectories = random_hopper_episodes(6, int(np.random.default_rng().integers(10_000)))
    ends, finals = trajectories.episode_ends.copy(), trajectories.final_observations.copy()
    ends[1], ends[4] = EpisodeEnd.TIME_LIMIT, EpisodeEnd.CUT
    finals[4] = np.nan
    return dataclasses.replace(trajectories, episode_ends=ends, final_observations=finals)


def assigned(data: Trajectories, folder: Path, updates: int, points: tuple[int, ...] = ()) -> Assignment:
    folder.mkdir(exist_ok=True)
    return Assignment("random", "", data, 5, folder, {"updates": updates}, points)


def interrupting(phase: str, after: int) -> object:
    """A report that asks for a stop once, as Ctrl-C does."""
    asked: list[int] = []

    def report(reported: str, done: int, _total: int) -> None:
        if reported == phase and done > after and not asked:
            asked.append(done)
            os.kill(os.getpid(), signal.SIGINT)

    return report


@pytest.mark.slow
def test_policies_and_batches_are_d3rlpys_and_simulators_agree(
    python: Path, data: Trajectories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its log of warnings into the working folder
    d3rlpy.prepare("awac", assigned(data, tmp_path, 10))
    changed = {**os.environ, **d3rlpy.program_environment(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(python), "-W", "ignore", str(CHECKS), str(tmp_path)],
        env={name: value for name, value in changed.items() if value is not None},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = np.load(tmp_path / "said.npz")
    methods = [method.name for method in METHODS.values() if method.implementation == "d3rlpy"]
    assert {*methods, "observations", "rewards"} == {name for name in said.files if "-v4-" not in name}
    for method in methods:
        policy = d3rlpy.load_policy(d3rlpy.policy_path(tmp_path / method, 0), method, data.metadata)
        if isinstance(policy, DecisionTransformerAgent):
            actions = []
            for step, (observation, reward) in enumerate(zip(said["observations"], said["rewards"], strict=True)):
                actions.append(policy.plan(observation[None], [step == 0]).actions[0])
                policy.hear(np.array([reward]), np.array([0]))
        else:
            actions = policy(said["observations"])
        assert np.abs(said[method]).max() > 1e-3
        np.testing.assert_allclose(actions, said[method], atol=2e-5, err_msg=method)
    for environment_id in ENVIRONMENTS:
        for name, values in walk(environment_id).items():
            np.testing.assert_array_equal(values, said[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("method, updates", [("iql", 300), ("decision_transformer", 12)])
def test_an_interrupted_training_ends_where_an_undisturbed_one_does(
    python: Path, data: Trajectories, tmp_path: Path, method: str, updates: int
) -> None:
    train, tensors = getattr(d3rlpy, method), []
    for name in ("straight", "broken"):
        work, recorder = assigned(data, tmp_path / name, updates), Recorder()
        if name == "broken":
            with pytest.raises(KeyboardInterrupt):
                train(work, recorder, interrupting("update", 0))
            assert not recorder.kept
            assert (work.folder / "checkpoint.pt").is_file()
        train(work, recorder, nothing)
        assert recorder.kept[0][0] == updates
        tensors.append(d3rlpy.policy_path(work.folder, 0).read_bytes())
    assert tensors[0] == tensors[1]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cal_ql", "awac"])
def test_online_points_are_reached_and_the_updates_counted(
    python: Path, data: Trajectories, tmp_path: Path, method: str
) -> None:
    train, first, second = getattr(d3rlpy, method), Recorder(stop_at=90), Recorder()
    with pytest.raises(KeyboardInterrupt):  # while the last point is played
        train(assigned(data, tmp_path, 3, (40, 90)), first, nothing)
    assert list(first.kept) == [0, 40]
    train(assigned(data, tmp_path, 3, (40, 90)), second, nothing)
    assert {point: updates for point, (updates, _) in second.kept.items()} == {0: 3, 40: 43, 90: 93}
    observations = data.observations[:20]
    offline, online = (second.kept[point][1](observations) for point in (0, 90))
    assert np.abs(offline - online).max() > 1e-4
    # Steps may be added to a training that had none of them.
    longer = Recorder()
    train(assigned(data, tmp_path, 3, (40, 90, 100)), longer, nothing)
    assert longer.kept[100][0] == 103


def test_the_program_lies_where_it_is_looked_for() -> None:
    assert Path(d3rlpy_program.__file__).parent == d3rlpy.PROGRAM_FOLDER / d3rlpy.PROGRAM
