"""A tiny run on a cluster of two nodes, the second of which is lost in the middle; started by test_two_nodes.py.

    python -m tests.faults.two_nodes RUN REPORT.json learner replay

puts the roles named on the second node and all others on the first, where the driver is. In a process of its own,
because a cluster of several nodes and the one the other tests share do not fit into one process.

Each node has a temporary and a working folder of its own; those of the lost one are deleted with it. What the nodes
share is the run folder and the data set it names.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.crew import Crew
from actors.online_run import OnlineRun
from actors.run_on_ray import run_on_ray
from m3pc_ray.online.progress import OnlineProgress
from m3pc_ray.training.interrupt import StopRequest
from m3pc_ray.training.run_folder import RunFolder

CORES = (8.0, 8.0)
"""Of the two nodes, as far as Ray knows: all roles fit on one."""
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 5,
    "health_check_timeout_ms": 2000,
}
"""A lost node is noticed after 2.5 s rather than a quarter of a minute."""
LOST_AT_STEPS = 150
"""Environment steps after which the second node is lost."""


class Nodes:
    """Two nodes, each in a folder of its own.

    Args:
        away: roles that go to the second node, if it has not been lost when they start.
        cores: of each, as far as Ray knows.
    """

    def __init__(self, away: Sequence[str] = (), cores: tuple[float, float] = CORES) -> None:
        self.away = away
        # Short, because socket paths have room for 107 characters.
        self.folders = [Path(tempfile.mkdtemp(prefix=f"m3pc-{name}-", dir="/tmp")) for name in ("a", "b")]
        self.cluster = Cluster()
        self.nodes = [self._add(self.folders[0], cores[0], _system_config=HEALTH), self._add(self.folders[1], cores[1])]
        os.chdir("/")
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level="error")

    def _add(self, folder: Path, cores: float, **settings: Any) -> Any:
        """A node whose processes are at home in a folder, as the first of them, this one, passes it on."""
        os.chdir(folder)
        os.environ["TMPDIR"] = str(folder)
        rays = folder / "ray"
        rays.mkdir()
        return self.cluster.add_node(num_cpus=cores, temp_dir=str(rays), include_dashboard=False, **settings)

    def place(self) -> None:
        """From now on roles are made where they belong; one whose node is gone may go to another."""
        hire = Crew.hire

        def placed(crew: Crew, name: str, *arguments: Any, **options: Any) -> Any:
            node = self.nodes[name in self.away]
            strategy = NodeAffinitySchedulingStrategy(node.node_id, soft=True)
            return hire(crew, name, *arguments, scheduling_strategy=strategy, **options)

        Crew.hire = placed  # type: ignore[method-assign]

    def lose_second(self) -> None:
        """Every process of the second node ends without a word, and its disk is gone."""
        self.cluster.remove_node(self.nodes[1], allow_graceful=False)
        shutil.rmtree(self.folders[1], ignore_errors=True)

    def of_process(self, pid: int) -> int | None:
        """Number of the node that a role's process belongs to: its parent is the node's raylet."""
        try:
            parent = int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            return None
        raylets = [node.all_processes["raylet"][0].process.pid for node in self.nodes if node.all_processes]
        return raylets.index(parent) if parent in raylets else None

    def close(self) -> None:
        ray.shutdown()
        self.cluster.shutdown()
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)


class Watch(OnlineProgress):
    """Loses the second node at `LOST_AT_STEPS` and writes down what follows."""

    def __init__(self, run: RunFolder, nodes: Nodes) -> None:
        super().__init__(run, run.config(), quiet=True)
        self.nodes = nodes
        self.online_run: OnlineRun | None = None
        self.before: dict[str, int | None] = {}
        self.lost: float | None = None
        self.recovered: dict[str, float] = {}
        self.most_steps_lost = 0
        self.thread = threading.Thread(target=nodes.lose_second)

    def update(self, steps: int, updates: dict[str, int], values: dict[str, float], force: bool = False) -> None:
        assert self.online_run is not None
        self.most_steps_lost = max(self.most_steps_lost, self.steps - steps)
        super().update(steps, updates, values, force)
        members = self.online_run.crew.members
        if self.lost is None:
            if steps >= LOST_AT_STEPS:
                self.before = self.placement()
                self.pids = {name: member.status.pid for name, member in members.items()}
                self.lost = time.monotonic()
                self.thread.start()
            return
        for name in self.nodes.away:
            status = members[name].status
            if name not in self.recovered and status.state == "running" and status.pid != self.pids[name]:
                self.recovered[name] = time.monotonic() - self.lost

    def placement(self) -> dict[str, int | None]:
        """Number of the node by role."""
        assert self.online_run is not None
        return {name: self.nodes.of_process(member.status.pid) for name, member in self.online_run.crew.members.items()}


def main(path: str, report: str, *away: str) -> None:
    run = RunFolder.open(path)
    nodes = Nodes(away)
    nodes.place()
    train = OnlineRun.train
    with Watch(run, nodes) as watch:

        def watched(online_run: OnlineRun) -> None:
            watch.online_run = online_run
            train(online_run)
            watch.after = watch.placement()

        OnlineRun.train = watched  # type: ignore[method-assign]
        try:
            run_on_ray(run, watch, StopRequest(), learner_delay=0.005)
            watch.thread.join()
        finally:
            nodes.close()
    summary = {
        "before": watch.before,
        "after": watch.after,
        "recovery_seconds": watch.recovered,
        "most_steps_lost": watch.most_steps_lost,
    }
    Path(report).write_text(json.dumps(summary), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
