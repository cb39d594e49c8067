"""A sweep of two trials on a cluster of two nodes, the second of which is lost; started by test_lost_node.py.

    python -m tests.tune.two_nodes KIND SWEEP.yaml RUN DIR REPORT.json

In a process of its own, as `tests.faults.two_nodes`, whose nodes it uses: nothing but DIR and RUN is on both of them.
A trial takes the second node as a whole. The first has room for two, one of which is kept by somebody else until the
second is lost: so there is a trial on each, and then the lost one finds room at once.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from m3pc_ray.cli import main as m3pc
from m3pc_ray.online.watching.processes import process_title
from tests.faults.driver import live
from tests.faults.two_nodes import Nodes
from tune.folder import RESULTS, SweepFolder
from tune.results import read_results
from tune.snapshot import logged_steps

TRIAL_CORES = 4.0
TRAINABLE = "ray::ImplicitFunc"
"""Ray Tune's class of a trial that is a function."""
LOST_AT_STEPS = 60
"""Environment steps that every trial has logged when the second node is lost."""
WATCH_SECONDS = 10.0
"""How long after the end of the sweep something may still come to be seen."""


class Somebody:
    """Keeps cores of the first node."""


class Watch(threading.Thread, ABC):
    """Loses the second node in the middle of both trials, and looks how the one that was there goes on.

    Args:
        nodes: the cluster.
        folder: of the sweep.
        kept: folder for copies of what the trials had logged before.
    """

    def __init__(self, nodes: Nodes, folder: Path, kept: Path) -> None:
        super().__init__(daemon=True)
        self.nodes, self.folder, self.kept = nodes, folder, kept
        place = NodeAffinitySchedulingStrategy(nodes.nodes[0].node_id, soft=False)
        options = {"num_cpus": TRIAL_CORES, "scheduling_strategy": place}
        self.somebody = ray.remote(Somebody).options(**options).remote()
        self.told: dict[str, object] = {"went_on": False}
        """What was seen."""

    def run(self) -> None:
        self.watch()
        self.told["went_on"] = True

    @abstractmethod
    def watch(self) -> None:
        """Lose the node, and return once its trial has gone on."""

    def lose(self) -> float:
        """Lose the second node, and let the first have room; the instant."""
        lost = time.monotonic()
        self.before = self.trials_on(0)
        self.nodes.lose_second()
        ray.kill(self.somebody)
        self.told["losing_seconds"] = time.monotonic() - lost
        return lost

    def wait_for_placement(self, lost: float) -> None:
        """Wait until the other node carries out a trial that it did not before."""
        until(lambda: any(pid not in self.before for pid in self.trials_on(0)))
        self.told["placed_again_seconds"] = time.monotonic() - lost

    def trials_on(self, node: int) -> list[int]:
        """Process ids of the trials that are carried out on a node."""
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [pid for pid in pids if self.nodes.of_process(pid) == node and TRAINABLE in process_title(pid)]


class FinetuneWatch(Watch):
    """Trials that are online runs."""

    def watch(self) -> None:
        runs = {name: self.folder / "trials" / name for name in ("00000", "00001")}
        until(lambda: all((run / "replay").exists() and logged_steps(run) >= LOST_AT_STEPS for run in runs.values()))
        pids = {name: status.pid for name, run in runs.items() if (status := live(run)) is not None}
        placed = {name: self.nodes.of_process(pid) for name, pid in pids.items()}
        for name, run in runs.items():
            shutil.copytree(run / "replay", self.kept / name)
        lost = self.lose()
        self.told["placed"] = placed
        self.wait_for_placement(lost)
        (away,) = [name for name, node in placed.items() if node == 1]

        def trains_again() -> bool:
            status = live(runs[away])
            return status is not None and status.pid != pids[away] and status.state == "running"

        until(trains_again)
        self.told["trains_again_seconds"] = time.monotonic() - lost
        before = logged_steps(runs[away])
        until(lambda: logged_steps(runs[away]) > before)
        self.told["new_steps_seconds"] = time.monotonic() - lost


class EvaluateWatch(Watch):
    """Trials that play episodes."""

    def watch(self) -> None:
        until(lambda: bool(self.trials_on(0) and self.trials_on(1)))
        reported = self.reported()
        lost = self.lose()
        self.told["reported_before"] = reported
        self.wait_for_placement(lost)

    def reported(self) -> int:
        folder = SweepFolder(self.folder)
        return read_results(folder).num_rows if folder.exists(RESULTS) else 0


def until(condition: Callable[[], bool]) -> None:
    """Look again and again, until this process ends."""
    while not condition():
        time.sleep(0.05)


def main(kind: str, sweep: str, run: str, out: str, report: str) -> None:
    nodes = Nodes(cores=(2 * TRIAL_CORES, TRIAL_CORES))
    try:
        kinds = {"finetune": FinetuneWatch, "evaluate": EvaluateWatch}
        watch = kinds[kind](nodes, Path(out), Path(report).parent / "kept")
        watch.start()
        code = m3pc(["sweep", "--config", sweep, "--run", run, "--out", out, "--trial-cpus", str(TRIAL_CORES)])
        watch.join(WATCH_SECONDS)
    finally:
        nodes.close()
    Path(report).write_text(json.dumps({**watch.told, "exit_code": code}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
