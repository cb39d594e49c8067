"""Roles on a cluster of a node with a GPU and nodes without, all of this machine; started by test_mixed_cluster.py.

    python -m tests.cluster.mixed REPORT.json

The GPU is one by name only, so what is placed are actors that ask for what the roles ask for, in the same order, and do
nothing. In a process of its own, because a cluster of several nodes and the one the other tests share do not fit into
one process.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from actors.cluster import share_resources
from m3pc_ray.config import OnlineConfig

NODES = ((4.0, 1.0), (16.0, 0.0), (16.0, 0.0))
"""Cores and GPUs, as far as Ray knows. Half the largest node's cores are more than the node with the GPU has."""
WORKERS = 28
START_SECONDS = 180.0


class Idle:
    """An actor in the place of a role."""

    def node(self) -> str:
        """Where it is."""
        return ray.get_runtime_context().get_node_id()


def main(report: str) -> None:
    folder = tempfile.mkdtemp(prefix="m3pc-x-", dir="/tmp")  # socket paths have room for 107 characters
    cluster = Cluster()
    try:
        nodes = [
            cluster.add_node(num_cpus=cores, num_gpus=gpus, temp_dir=f"{folder}/{number}", include_dashboard=False)
            for number, (cores, gpus) in enumerate(NODES)
        ]
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        shares = share_resources(OnlineConfig(rollout_workers=WORKERS), use_gpu=True)
        asked = [("replay", shares.replay), *[("planner", shares.planner)] * shares.planners]
        asked += [("learner", shares.learner), ("evaluator", shares.evaluator)]
        # Of the workers a few: each is a process, and what counts is where they go.
        asked += [("rollout_worker", {**shares.rollout_worker, "num_cpus": 7 * shares.rollout_worker["num_cpus"]})] * 4
        actors = [ray.remote(Idle).options(**options).remote() for _, options in asked]
        where = ray.get([actor.node.remote() for actor in actors], timeout=START_SECONDS)
        numbers = {node.node_id: number for number, node in enumerate(nodes)}
        placed = [[role, numbers[node]] for (role, _), node in zip(asked, where, strict=True)]
        found = {"placed": placed, "threads": shares.threads}
        Path(report).write_text(json.dumps(found), encoding="utf-8")
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
