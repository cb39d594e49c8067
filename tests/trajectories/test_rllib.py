"""RLlib's offline readers take our store as it is, and an RLlib algorithm learns from it."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from m3pc_ray.trajectories import resolve
from m3pc_ray.trajectories.store import write_store


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three episodes of the bundled set, one of which reached the time limit."""
    bundled = resolve.load("bundled/hopper")
    return bundled.select([int(np.argmax(bundled.lengths)), 3, 100])


def rllib(action, data, folder, timeout):
    write_store(data, folder / "store")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("rllib_reader.py")), action, "store", "out.json"],
        env=os.environ | {"RAY_ADDRESS": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "out.json").read_text())


def columns_of(data):
    """What RLlib must find in each column."""
    last_rows = data.episode_starts[1:] - 1
    stopped = np.isin(np.arange(data.num_steps), last_rows)
    return {
        "obs": data.observations,
        "actions": data.actions,
        "new_obs": data.next_observations(),
        "rewards": data.rewards,
        "terminateds": data.terminated(),
        "truncateds": stopped & ~data.terminated(),
    }


def test_rllib_makes_its_training_batch_of_our_rows(data, tmp_path):
    batch = rllib("prelearner", data, tmp_path, timeout=300)
    expected = columns_of(data)
    assert expected["truncateds"].sum() == 1
    for name, values in expected.items():
        np.testing.assert_array_equal(np.asarray(batch[name], dtype=values.dtype), values, err_msg=name)


@pytest.mark.slow
def test_rllib_learns_from_our_store_through_ray_data(data, tmp_path):
    read = rllib("train", data, tmp_path, timeout=500)
    for name, values in columns_of(data).items():
        np.testing.assert_array_equal(np.asarray(read["columns"][name], dtype=values.dtype), values, err_msg=name)
    episodes = [f"bundled/hopper-{number:06d}" for number in range(3)]
    assert read["columns"]["eps_id"] == list(np.repeat(episodes, data.lengths))
    assert read["trained"] >= 16
    assert math.isfinite(read["qf_loss"])
    assert math.isfinite(read["policy_loss"])
