"""Run by test_rllib.py in a process of its own, RLlib being heavy: `python rllib_reader.py prelearner|train STORE OUT`.

prelearner   RLlib's `OfflinePreLearner` turns the store's rows into RLlib's training batch, without a Ray cluster
train        RLlib opens the store through Ray Data, and its IQL trains on it for one iteration
What came out goes to OUT (JSON).
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pyarrow.parquet as parquet
from ray.rllib.algorithms.iql import IQLConfig
from ray.rllib.offline.offline_data import OfflineData
from ray.rllib.offline.offline_prelearner import OfflinePreLearner


def configuration(store: str) -> Any:
    """The settings of docs/data.md."""
    return (
        IQLConfig()
        .environment(
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (11,), np.float32),
            action_space=gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32),
        )
        .offline_data(
            input_=[str(Path(store).resolve())],
            input_compress_columns=[],
            map_batches_kwargs={"concurrency": 1, "num_cpus": 1},
            dataset_num_iters_per_learner=1,
        )
        .training(train_batch_size_per_learner=16)
        .env_runners(num_env_runners=0)
        .learners(num_learners=0)
    )


def prelearner(store: str) -> dict[str, Any]:
    config = configuration(store)
    table = parquet.read_table(store)  # as Ray Data does, the folder: _metadata.json is not in the way
    rows = {name: table.column(name).to_pandas().to_numpy() for name in table.column_names}
    spaces = (config.observation_space, config.action_space)
    config.rl_module(rl_module_spec=config.get_multi_rl_module_spec(spaces={"default_policy": spaces}))
    batch = OfflinePreLearner(config=config, spaces=spaces)(rows)
    return {key.removeprefix("default_policy/"): np.asarray(values).tolist() for key, values in batch.items()}


def train(store: str) -> dict[str, Any]:
    import ray

    from actors.cluster import start_local

    folder = tempfile.mkdtemp(prefix="m3pc-", dir="/tmp")  # socket paths have room for 107 characters
    try:
        start_local(_temp_dir=folder, num_cpus=2)
        ray.data.DataContext.get_current().enable_progress_bars = False
        config = configuration(store)
        rows = OfflineData(config).data.take_all()
        algorithm = config.build_algo()
        learnt = algorithm.train()["learners"]["default_policy"]
        algorithm.stop()
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    losses = {key: float(learnt[key]) for key in ("qf_loss", "policy_loss")}
    columns = {key: [np.asarray(row[key]).tolist() for row in rows] for key in rows[0]}
    return {"columns": columns, "trained": int(learnt["num_module_steps_trained"]), **losses}


if __name__ == "__main__":
    action, store, out = sys.argv[1:]
    Path(out).write_text(json.dumps({"prelearner": prelearner, "train": train}[action](store)))
