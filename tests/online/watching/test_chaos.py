"""`m3pc chaos` against a run whose driver is a thread and whose roles are real processes with the title of Ray's."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from m3pc_ray.cli import main
from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.online.watching import chaos as chaos_module
from m3pc_ray.online.watching.chaos import Chaos, Kill, Losses
from m3pc_ray.online.watching.live import LiveStatus, RoleStatus, write_live
from m3pc_ray.online.watching.processes import end_worker, is_ray_worker
from m3pc_ray.training.run_folder import RunFolder
from tests.online.watching.live_factory import role, status

HERE = socket.gethostname()
FALLS_BACK = 750
NAMES = {
    "rollout_worker-0": "rollout_worker",
    "rollout_worker-1": "rollout_worker",
    "planner-0": "planner",
    "learner": "learner",
}


def sleeper(title: str = "ray::Role") -> subprocess.Popen[bytes]:
    """A process that does nothing, under that name."""
    return subprocess.Popen([title, "600"], executable=shutil.which("sleep"))


class FakeDriver:
    """Starts roles again that die, and writes live.json every few milliseconds.

    Every status has 10 more steps and 100 more updates; a learner that died is back first, and falls back by 750
    with its first report.
    """

    def __init__(self, run: RunFolder, statuses: int = 10_000, restarts: bool = True) -> None:
        self.run, self.restarts, self._left = run, restarts, statuses
        self.processes = {name: sleeper() for name in NAMES}
        self.roles = {name: role(name, kind, pid=self.processes[name].pid, host=HERE) for name, kind in NAMES.items()}
        self.steps, self.updates = 0, 10_000
        self._fall_back = False
        self.end = "finished"
        self.killed: list[str] = []
        self._write("running")
        self._thread = threading.Thread(target=self._drive)
        self._stop = threading.Event()

    def __enter__(self) -> "FakeDriver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for process in self.processes.values():
            process.kill()
            process.wait()

    def _drive(self) -> None:
        while self._left > 0 and not self._stop.is_set():
            self._left -= 1
            time.sleep(0.01)
            if self._fall_back:
                self.updates, self._fall_back = self.updates - FALLS_BACK, False
            for name, process in self.processes.items():
                if process.poll() is not None:
                    self._restart(name, process.returncode)
            self.steps += 10
            self.updates += 100
            self._write("running")
        self._write(self.end)

    def _restart(self, name: str, code: int) -> None:
        if self.roles[name].state == "running":  # noticed: first it is gone, in the next status it is back
            assert code == -signal.SIGKILL
            self.killed.append(name)
            self.roles[name] = dataclasses.replace(self.roles[name], state="restarting", pid=0)
        elif self.restarts:
            self.processes[name] = sleeper()
            changes = {"pid": self.processes[name].pid, "restarts": self.roles[name].restarts + 1}
            self.roles[name] = dataclasses.replace(self.roles[name], state="running", **changes)
            self._fall_back = name == "learner"

    def _write(self, state: str) -> None:
        updates = {"btm": self.updates, "critic": 10 * self.updates}
        now = {"time": time.time(), "pid": os.getpid(), "host": HERE}
        write_live(
            self.run, status(state=state, roles=list(self.roles.values()), steps=self.steps, updates=updates, **now)
        )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(chaos_module, "POLL_SECONDS", 0.005)


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", RunConfig(), "finetune")


def kill_directly(_: LiveStatus, victim: RoleStatus) -> str:
    end_worker(victim.pid)
    return "SIGKILL"


def test_kinds_and_names_in_turn(run):
    with FakeDriver(run) as driver:
        chosen = ["planner", "rollout_worker-1", "learner"]
        kills = list(Chaos(run, kill_directly, chosen, every=0.0, times=5).kills())
    assert [kill.role for kill in kills] == [
        "planner-0",
        "rollout_worker-1",
        "learner",
        "planner-0",
        "rollout_worker-1",
    ]
    assert driver.killed == [kill.role for kill in kills]
    assert {name: entry.restarts for name, entry in driver.roles.items()} == {
        "planner-0": 2,
        "rollout_worker-1": 2,
        "learner": 1,
        "rollout_worker-0": 0,
    }
    assert {kill.outcome for kill in kills} == {"recovered"}
    assert all(kill.recovery_seconds is not None and 0.01 < kill.recovery_seconds < 5.0 for kill in kills)
    assert len({kill.pid for kill in kills}) == 5
    assert [kill.steps for kill in kills] == sorted({kill.steps for kill in kills})


def test_only_the_learner_loses_updates_and_nobody_steps(run):
    with FakeDriver(run):
        kills = list(Chaos(run, kill_directly, ["learner", "planner"], every=0.0, times=2).kills())
    learner, planner = kills
    assert planner.updates_lost == {"btm": 0, "critic": 0}
    assert learner.updates_lost["critic"] == 10 * learner.updates_lost["btm"]
    assert 0.4 * FALLS_BACK <= learner.updates_lost["btm"] <= FALLS_BACK  # it went on before the next look
    assert [kill.steps_lost for kill in kills] == [0, 0]


def test_losses_are_the_deepest_drop_below_the_highest_count():
    losses = Losses()
    for steps, btm in ((10, 100), (20, 140), (20, 110), (30, 105), (40, 190), (39, 180)):
        losses.see(status(steps=steps, updates={"btm": btm}))
    assert losses.updates == {"btm": 35}
    assert losses.steps == 1


@pytest.mark.parametrize(
    ("changes", "back"),
    [
        ({"pid": 8, "restarts": 3}, True),
        ({"pid": 7, "restarts": 3}, False),  # the same process: it has not even died
        ({"pid": 0, "restarts": 3}, False),
        ({"pid": 8, "restarts": 2}, False),
        ({"pid": 8, "restarts": 3, "state": "starting"}, False),
        ({"pid": 8, "restarts": 3, "name": "planner-1"}, False),
    ],
)
def test_back_is_running_as_another_process_with_one_more_restart(changes, back):
    victim = role("planner-0", "planner", pid=7, restarts=2)
    assert chaos_module._is_back(dataclasses.replace(victim, **changes), victim) == back


def test_all_kills_every_kind_and_the_seed_chooses_among_workers(run):
    with FakeDriver(run):
        first = [kill.role for kill in Chaos(run, kill_directly, ["all"], 0.0, times=6, seed=1).kills()]
        again = [kill.role for kill in Chaos(run, kill_directly, ["all"], 0.0, times=6, seed=1).kills()]
    assert first == again
    assert [name.partition("-")[0] for name in first] == ["rollout_worker", "planner", "learner"] * 2
    with FakeDriver(run):
        workers = {kill.role for kill in Chaos(run, kill_directly, ["rollout_worker"], 0.0, times=12).kills()}
    assert workers == {"rollout_worker-0", "rollout_worker-1"}


def test_seconds_between_kills_are_kept(run):
    moments: list[float] = []

    def kill(now: LiveStatus, victim: RoleStatus) -> str:
        moments.append(time.monotonic())
        return kill_directly(now, victim)

    with FakeDriver(run):
        list(Chaos(run, kill, ["planner"], every=0.4, times=3).kills())
    gaps = [later - earlier for earlier, later in zip(moments, moments[1:], strict=False)]
    assert all(0.39 < gap < 5.0 for gap in gaps)


def test_it_ends_with_the_run(run):
    with FakeDriver(run, statuses=100):
        chaos = Chaos(run, kill_directly, ["planner"], every=0.0)
        kills = list(chaos.kills())
    assert len(kills) >= 2
    assert all(kill.outcome == "recovered" for kill in kills[:-1])
    assert not chaos.run_failed()


@pytest.mark.parametrize("end", ["finished", "failed"])
def test_a_run_that_ends_before_the_role_is_back(run, end):
    with FakeDriver(run, statuses=20, restarts=False) as driver:
        driver.end = end
        chaos = Chaos(run, kill_directly, ["learner"], every=0.0, times=5)
        (kill,) = chaos.kills()
    assert (kill.outcome, kill.recovery_seconds) == ("run ended", None)
    assert chaos.run_failed() == (end == "failed")


def test_a_role_that_stays_away_ends_the_chaos(run, monkeypatch):
    monkeypatch.setattr(chaos_module, "RECOVERY_SECONDS", 0.3)
    with FakeDriver(run, restarts=False) as driver:
        (kill,) = Chaos(run, kill_directly, ["planner", "learner"], every=0.0, times=5).kills()
        assert driver.processes["learner"].poll() is None
        with pytest.raises(UserError, match="no planner was running for 0 s"):
            list(Chaos(run, kill_directly, ["planner"], every=0.0).kills())
    assert kill.outcome == "not recovered"
    assert kill.sentence() == "planner-0 did not come back: not recovered"


def test_only_processes_of_ray_are_killed(run):
    """The process of a role has ended and another one has its number."""
    stranger = sleeper("stranger")
    try:
        with FakeDriver(run) as driver:
            driver.roles["planner-0"] = dataclasses.replace(driver.roles["planner-0"], pid=stranger.pid)
            time.sleep(0.1)
            lines: list[str] = []
            chaos = Chaos(run, kill_directly, ["planner", "learner"], every=0.0, times=1, report=lines.append)
            (kill,) = chaos.kills()
            assert kill.role == "learner"  # the planner's turn passed
            assert f"process {stranger.pid} is not one of Ray's: stranger 600" in lines[0]
        assert stranger.poll() is None
        assert not is_ray_worker(stranger.pid)
        with pytest.raises(ProcessLookupError, match="not one of Ray's"):
            end_worker(stranger.pid)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    with pytest.raises(ProcessLookupError):
        end_worker(stranger.pid)


def test_the_driver_itself_is_never_killed(run):
    write_live(run, status(time=time.time(), pid=7, host="far", roles=[role("learner", "learner", pid=7, host="far")]))

    def kill(_: LiveStatus, __: RoleStatus) -> str:
        raise AssertionError("killed")

    with pytest.raises(UserError, match="learner is the driver's own process"):
        list(Chaos(run, kill, ["learner"], 0.0).kills())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": "finished"}, r"not running \(finished\); continue it with `m3pc resume"),
        ({"state": "starting"}, "not running yet or any more, but starting"),
        ({"state": "finishing"}, "but finishing"),
        ({"ray_address": ""}, "runs in one process"),
        ({"time": 1e9, "host": "far"}, "no news for"),
        ({"time": 1e9, "pid": 2**22 + 1}, "its driver is gone"),
    ],
)
def test_a_run_that_is_not_running_is_refused(run, changes, message, capsys):
    now = {"time": time.time(), "pid": os.getpid(), "host": HERE}
    write_live(run, status(**{**now, **changes}))
    with pytest.raises(UserError, match=message):
        Chaos(run, kill_directly, ["all"], 0.0)
    assert main(["chaos", str(run.path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_mistakes_on_the_command_line(run, capsys):
    def said(*words: str) -> str:
        assert main(["chaos", str(run.path), *words]) == 2
        return capsys.readouterr().err

    assert "no live status; is the run running?" in said()
    write_live(run, status(time=time.time(), pid=os.getpid(), host=HERE))
    assert "--kill cook: the run has no such role; there are: all, learner, planner, planner-0" in said(
        "--kill", "cook"
    )
    assert "--kill evaluator" in said("--kill", "planner", "--kill", "evaluator")
    assert "--times is 0" in said("--times", "0")
    assert "--every is -1" in said("--every", "-1")


def test_command(run, tmp_path, capsys):
    with FakeDriver(run):
        words = ["--kill", "planner", "--kill", "learner", "--every", "0", "--times", "3"]
        assert main(["chaos", str(run.path), *words, "--json", str(tmp_path / "chaos.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("killed planner-0 (process ")
    assert f"on {HERE}) by SIGKILL at step " in lines[0]
    assert lines[1].startswith("planner-0 back after ")
    assert "steps lost: 0; updates: " in lines[1]
    planner = next(line for line in lines if line.startswith("│ planner"))
    assert [cell.strip() for cell in planner.split("│")][1:4] == ["planner", "2", "2"]
    rows = json.loads((tmp_path / "chaos.json").read_text())["rows"]
    assert [row["role"] for row in rows] == ["planner-0", "learner", "planner-0"]
    assert set(rows[0]) == {field.name for field in dataclasses.fields(Kill)}
    assert rows[0]["steps_lost"] == 0


def test_a_failed_run_is_the_exit_code(run):
    with FakeDriver(run, statuses=30, restarts=False) as driver:
        driver.end = "failed"
        assert main(["chaos", str(run.path), "--kill", "planner", "--every", "0"]) == 1
