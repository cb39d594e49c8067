"""Runs in the environment of `make compare-env`: what d3rlpy itself says, for a test on the other side.

`python d3rlpy_checks.py FOLDER`: reads assignment.json and transitions.parquet there, trains every method for a few
updates, writes policies as the program does and d3rlpy's own actions beside them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import d3rlpy
import numpy as np
import torch
from d3rlpy.dataset import BasicTrajectorySlicer, BasicTransitionPicker, Episode
from d3rlpy.torch_utility import TorchMiniBatch, TorchTrajectoryMiniBatch
from d3rlpy_program.learner import Learner
from d3rlpy_program.methods import METHODS
from d3rlpy_program.policies import write_policy
from d3rlpy_program.sequences import Sequences
from d3rlpy_program.transitions import Data, Replay
from d3rlpy_walk import ENVIRONMENTS, walk

UPDATES = 3


def actions_of(algorithm: Any, name: str, data: Data, steps: dict[str, np.ndarray], target: float) -> np.ndarray:
    """d3rlpy's own actions: of observations, or step by step through an episode."""
    observations = data.standardised(steps["observations"])
    if name != "dt":
        return algorithm.predict(observations)
    wrapper = algorithm.as_stateful_wrapper(target_return=target * data.reward_scale)
    rewards = [0.0, *(steps["rewards"][:-1] * data.reward_scale)]
    return np.stack([wrapper.predict(o, r) for o, r in zip(observations, rewards, strict=True)])


def check_batches(data: Data) -> None:
    """Rows and windows are what d3rlpy's picker and slicer make of the same episodes."""
    spans = list(zip(data.starts[:-1], data.starts[1:], strict=True))
    flat, row = data.transitions(), 0
    sequences = Sequences(data, 5, np.random.default_rng())
    for a, b in spans:
        episode = Episode(
            data.observations[a:b], data.actions[a:b], data.rewards[a:b, None], bool(data.terminals[b - 1])
        )
        for step in range(b - a):
            window = BasicTrajectorySlicer()(episode, step, 5)
            theirs = TorchTrajectoryMiniBatch.from_batch(
                d3rlpy.dataset.TrajectoryMiniBatch.from_partial_trajectories([window]), "cpu:0"
            )
            ours = sequences.ending_at(np.array([a + step]))
            for name in ("observations", "actions", "rewards", "returns_to_go", "terminals", "timesteps", "masks"):
                torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), msg=f"window {name}")
        for step in range(episode.transition_count):
            picked = d3rlpy.dataset.TransitionMiniBatch.from_transitions([BasicTransitionPicker()(episode, step)])
            theirs = TorchMiniBatch.from_batch(picked, data.discount, True, "cpu:0")
            for name, values in flat.items():
                if name == "next_observations" and data.terminals[a + step]:
                    continue  # d3rlpy has zeros there, which nobody looks at
                torch.testing.assert_close(torch.as_tensor(values[row : row + 1]), getattr(theirs, name), msg=name)
            row += 1
        row += int(data._usable[a:b].sum()) - episode.transition_count  # a time limit's last step, which d3rlpy drops
    assert row == len(flat["rewards"])


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    assignment = json.loads((folder / "assignment.json").read_text())
    rng = np.random.default_rng()
    steps = {
        "observations": rng.normal(size=(45, assignment["observation_dim"])).astype(np.float32),
        "rewards": rng.uniform(0.0, 3.0, 45).astype(np.float32),
    }
    said: dict[str, np.ndarray] = dict(steps)
    for name, method in METHODS.items():
        algorithm = method.create(assignment)
        algorithm.create_impl((assignment["observation_dim"],), assignment["action_dim"])
        learner = Learner(algorithm, rng, folder / "checkpoint.pt")
        discount = getattr(algorithm.config, "gamma", 1.0)
        data = Data(folder / "transitions.parquet", discount, method.reward_scale(assignment), method.standardise)
        check_batches(data)
        source = (
            Sequences(data, algorithm.config.context_size, rng)
            if method.sequences
            else Replay(data.transitions(), 0, method.online_share, rng)
        )
        for _ in range(UPDATES):
            learner.update(source.batch(algorithm.config.batch_size))
        (folder / name).mkdir()
        write_policy(folder / name, 0, learner, data, assignment)
        said[name] = actions_of(algorithm, name, data, steps, assignment["best_return"])
        learner.save()
        again = method.create(assignment)
        again.create_impl((assignment["observation_dim"],), assignment["action_dim"])
        restored = Learner(again, np.random.default_rng(), folder / "checkpoint.pt")
        restored.restore()
        assert restored.updates == UPDATES
        np.testing.assert_array_equal(
            actions_of(again, name, data, steps, assignment["best_return"]), said[name], err_msg=name
        )
        (folder / "checkpoint.pt").unlink()
    for environment_id in ENVIRONMENTS:
        said |= walk(environment_id)
    np.savez(folder / "said.npz", **said)


if __name__ == "__main__":
    main()
