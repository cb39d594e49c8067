"""`m3pc top`: what it shows, says about a run that is gone, and how it ends."""

import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console

from m3pc_ray.cli import main
from m3pc_ray.config import OnlineConfig, RunConfig
from m3pc_ray.online.watching.live import LiveStatus, write_live
from m3pc_ray.online.watching.processes import driver_is_gone, process_exists
from m3pc_ray.online.watching.top import Watch, watch_live
from m3pc_ray.training.run_folder import RunFolder
from tests.online.watching.live_factory import role, status

ROLES = [
    role("rollout_worker-0", "rollout_worker", values={"steps_per_second": 6.25, "planning_share": 0.75}),
    role("planner-0", "planner", values={"batch_2": 30.0, "batch_4": 90.0, "batch_8": 0.0, "queue": 3.0}, restarts=2),
    role("learner", "learner", state="restarting", memory_bytes=3 << 29, values={"busy": 0.9}),
    role("replay", "replay", values={"log_bytes": 5.0 * 2**20, "fragments_in_memory": 12.0}),
]
METRICS = {
    "steps_per_second": 12.5,
    "waiting_steps": 0.4,
    "waiting_updates": 0.01,
    "learner_busy": 0.97,
    "planner_batch_mean": 3.5,
    "weight_lag_min": 0.0,
    "weight_lag_mean": 90.0,
    "weight_lag_max": 160.0,
    "planning_share": float("nan"),
}


def living(**changes: object) -> LiveStatus:
    """A status written just now by this very process."""
    now = {"time": time.time(), "pid": os.getpid(), "host": socket.gethostname()}
    return status(**{"roles": ROLES, "metrics": METRICS, **now, **changes})


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", RunConfig(online=OnlineConfig(environments_per_worker=4)), "finetune")


@pytest.fixture
def dead_pid() -> int:
    """Number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def frame(run: RunFolder) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(Watch(run).screen())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_one_frame_shows_the_run_and_every_role(run):
    write_live(run, living())
    text = frame(run)
    for expected in (
        "running",
        "120 of 1,000  12.5/s  about 1 min left",
        "24 of 200",
        "240 of 2,000",
        "rollouts 40%  learner 1%",
        "min 0  mean 90  max 160",
        "batch 3.5 of 4 environments (88%)",
        "queue 3  batches 2: 25%, 4: 75%",
        "6.2 steps/s  planning 75%",
        "restarting",
        "1.50 GiB",
        "in memory 12  log 5 MiB",
        "bottleneck: The learner limits the run",
        "Lower online.btm_updates_per_step (now 0.2)",
    ):
        assert expected in text, expected
    assert "nan" not in text
    assert "resume" not in text
    planner = next(line for line in text.splitlines() if "planner-0" in line)
    assert [cell.strip() for cell in planner.split("│")][:4] == ["planner-0", "running", "2", "256 MiB"]


def test_names_are_shown_as_they_are(run):
    """Square brackets are the renderer's markup."""
    write_live(run, living(notice="waiting for [learner]"))
    assert "waiting for [learner]" in frame(run)


def test_once_and_json(run, capsys):
    write_live(run, living())
    assert main(["top", str(run.path), "--once"]) == 0
    assert "bottleneck: The learner limits" in " ".join(capsys.readouterr().out.split())
    assert main(["top", str(run.path), "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["steps"] == 120
    assert tree["metrics"]["planning_share"] is None
    assert tree["roles"][1]["values"]["batch_4"] == 90.0
    assert tree["bottleneck"] == tree["findings"][-1]["sentence"]
    assert tree["findings"][-1]["setting"] == "online.btm_updates_per_step"
    assert tree["warning"] == ""


def test_a_driver_that_is_gone(run, dead_pid, capsys):
    write_live(run, living(pid=dead_pid))
    assert Watch(run).warning() == ""  # it wrote just now: its parent may not even have noticed
    write_live(run, living(pid=dead_pid, time=time.time() - 60))
    assert main(["top", str(run.path), "--once"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"The driver (process {dead_pid}) is gone; its last status is 60 s old" in said
    assert f"m3pc resume {run.path}" in said.replace("resume/", "resume /")


@pytest.mark.parametrize("changes", [{"pid": os.getpid()}, {"host": "elsewhere"}])
def test_an_old_status_of_a_driver_that_may_be_there(run, dead_pid, changes):
    write_live(run, living(**{"pid": dead_pid, **changes, "time": time.time() - 60}))
    watch = Watch(run)
    assert "No news for 60 s" in watch.warning()
    assert "resume" not in watch.warning()
    assert not watch.dead


@pytest.mark.parametrize(("state", "code"), [("finished", 0), ("interrupted", 0), ("failed", 1)])
def test_a_run_that_has_ended(run, dead_pid, state, code, capsys):
    write_live(run, living(state=state, pid=dead_pid, time=time.time() - 9999))
    assert main(["top", str(run.path)]) == code
    assert ("m3pc resume" in capsys.readouterr().out.replace("\n", " ")) == (state != "finished")


def test_it_follows_the_run_until_it_ends(run):
    write_live(run, living())
    console = Console(file=io.StringIO(), width=160)
    watching = threading.Thread(target=watch_live, args=(Watch(run), console, 0.01))
    watching.start()
    for steps, state in ((500, "running"), (1000, "finished")):
        time.sleep(0.1)
        assert watching.is_alive()
        write_live(run, living(steps=steps, state=state))
    watching.join(timeout=10)
    assert not watching.is_alive()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert [text.count(f"{steps} of 1,000") for steps in ("120", "500", "1,000")] == [1, 1, 1]


def test_it_ends_when_the_driver_dies_without_a_word(run, dead_pid):
    moment = [1000.0]
    write_live(run, living(time=1000.0, pid=dead_pid))
    watch = Watch(run, clock=lambda: moment[0])
    assert not watch.dead
    console = Console(file=io.StringIO(), width=160, force_terminal=True)
    watching = threading.Thread(target=watch_live, args=(watch, console, 0.01))
    watching.start()
    time.sleep(0.1)
    assert watching.is_alive()
    moment[0] = 1011.0
    watching.join(timeout=10)
    assert not watching.is_alive()
    assert "is gone" in console.file.getvalue()  # type: ignore[attr-defined]


def test_growing_memory_is_seen_while_watching(run):
    watch = None
    for number, memory in enumerate((1, 2, 3)):
        learner = dataclasses.replace(ROLES[2], memory_bytes=memory << 30)
        write_live(run, living(time=1000.0 + 40 * number, roles=[learner]))
        watch = watch or Watch(run)
        watch.look()
    assert [finding.cause for finding in watch.findings()] == ["memory", "learner"]
    assert not watch.look()  # the same status again is none


def test_ctrl_c_is_the_ordinary_end(run):
    write_live(run, living())
    process = subprocess.Popen(
        [sys.executable, "-m", "m3pc_ray.cli", "top", str(run.path)],
        stdout=subprocess.PIPE,
        # Tests may run in the background of a shell, which has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    while b"bottleneck" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0


def test_no_status_and_no_run(run, tmp_path, capsys):
    assert main(["top", str(run.path)]) == 2
    assert "no live status; is the run running?" in capsys.readouterr().err
    assert main(["top", str(tmp_path / "nothing")]) == 2
    assert "no such run folder" in capsys.readouterr().err
    assert main(["top", str(run.path), "--once", "--json"]) == 2


def test_processes_are_told_apart(dead_pid):
    assert process_exists(os.getpid())
    assert not process_exists(dead_pid)
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # ended, and not collected yet
    assert not process_exists(ended.pid)
    ended.wait()
    assert driver_is_gone(living(pid=dead_pid))
    assert not driver_is_gone(living())
    assert not driver_is_gone(living(pid=dead_pid, host="elsewhere"))
