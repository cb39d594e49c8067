"""`kill -9` of the driver at random instants: its processes end by themselves, and `m3pc resume` loses nothing.

Whoever kills the driver takes the whole local cluster with it: Ray's servers share its fate, and every role ends when
its node is gone.
"""

import random
import time

import pytest

from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.online.watching.live import LiveStatus
from m3pc_ray.training.checkpoints import list_checkpoints, load_checkpoint
from m3pc_ray.training.metrics import read_metrics
from m3pc_ray.training.run_folder import RunFolder
from tests.actors.checks import assert_exact
from tests.faults.driver import Driver, finetune, is_running, live, m3pc

pytestmark = pytest.mark.faults

GONE_SECONDS = 20.0
"""Until every role and server is gone: 1 to 3 s were measured. The rest is room for a machine with much to do."""
AGENTS_GONE_SECONDS = 100.0
"""Until Ray's two agents of the node are gone too, which do nothing but try for 60 s to report the loss of the node to
a server that is gone."""
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent", "runtime_env/agent/main.py", "dashboard/agent.py")

INSTANTS = ("start", "any", "checkpoint", "resumed", "any")


def wait_for_instant(instant: str, driver: Driver, path, rng: random.Random, steps: int) -> None:
    """Let the driver live up to some instant that is random within a phase of it, long before its `steps` are done."""
    match instant:
        case "start":  # Python's, Ray's or the roles' start
            driver.wait_until(lambda: bool(driver.offspring()), "Ray starts")
            live_on(path, rng.uniform(0.0, 10.0), steps)
        case "any":
            driver.wait_until(lambda: is_running(path, driver), "it trains")
            live_on(path, rng.uniform(0.0, 6.0), steps)
        case "resumed":
            driver.wait_until(lambda: is_running(path, driver), "it trains")
        case "checkpoint":
            driver.wait_until(lambda: is_running(path, driver), "it trains")
            live_on(path, rng.uniform(0.0, 3.0), steps)
            driver.wait_until(lambda: any((path / "checkpoints").glob(".step-*.partial")), "it writes a checkpoint")


def live_on(path, seconds: float, steps: int) -> None:
    """Let so many seconds pass, or an eighth of the steps that are still to be taken: a fast machine needs few seconds
    for all of them, and the kills to come need some too."""
    ends = time.monotonic() + seconds
    before = steps_logged(path)
    while time.monotonic() < ends and steps_logged(path) - before < (steps - before) / 8:
        time.sleep(0.1)


def is_no_agent(title: str) -> bool:
    return not any(name in title for name in AGENTS)


def kill_and_check(driver: Driver, path) -> float:
    """Kill the driver; what the disk holds then is whole and stays. Returns seconds until its processes are gone."""
    driver.kill()
    # Appended to the log already, and maybe acknowledged already: the roles live on for a moment.
    at_once = list(read_log(path / "replay"))
    seconds = driver.wait_until_gone(GONE_SECONDS, is_no_agent)
    logged = list(read_log(path / "replay"))
    assert [identity(f) for f in logged[: len(at_once)]] == [identity(f) for f in at_once]
    for step in list_checkpoints(RunFolder.open(path)):  # complete, with good checksums, or absent
        assert load_checkpoint(RunFolder.open(path), step)[1]["environment_steps"] == step
    return seconds


def identity(fragment):
    """Everything that a fragment holds, comparable."""
    arrays = (fragment.observations, fragment.actions, fragment.rewards, fragment.final_observation)
    return (
        fragment.key,
        fragment.offset,
        fragment.end,
        fragment.reset_seed,
        fragment.weight_versions,
        *(array.tobytes() for array in arrays),
    )


def assert_owed_updates_come_first(status: LiveStatus, path) -> None:
    """No step beyond what the limiter allows for the updates that are done."""
    online = RunFolder.open(path).config().online
    critic = status.updates["critic"]
    limit = max(online.start_steps, critic + 1 + online.rate_tolerance_steps)
    assert status.steps <= limit, (status.steps, status.updates)


def kill_and_resume(pretrained, path, instants: tuple[str, ...], steps: int, checkpoint_updates: int) -> None:
    """A run whose driver is killed at every one of the instants, then brought to its end."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    output = path.with_suffix(".txt")
    command = finetune(pretrained, path, "--steps", str(steps), "--online.checkpoint_updates", str(checkpoint_updates))
    acknowledged: list[tuple] = []
    for number, instant in enumerate(instants):
        with Driver(command, output) as driver:
            wait_for_instant(instant, driver, path, rng, steps)
            seconds = kill_and_check(driver, path)
            logged = [identity(fragment) for fragment in read_log(path / "replay")]
            assert logged[: len(acknowledged)] == acknowledged
            acknowledged = logged
            done = f"{steps_logged(path)} steps in {len(logged)} fragments, {learnt(path)} critic updates checkpointed"
            print(f"kill {number}, {instant}: {done}; roles and servers gone after {seconds:.1f} s")
        command = m3pc("resume", str(path))
    logged_steps = steps_logged(path)
    with Driver(command, output) as driver:
        driver.wait_until(lambda: is_running(path, driver), "it trains")
        while driver.process.poll() is None:
            if (status := live(path)) is not None and status.pid == driver.process.pid and status.steps > logged_steps:
                assert_owed_updates_come_first(status, path)
            time.sleep(0.2)
        assert driver.wait() == 0, output.read_text()[-3000:]
        driver.wait_until_gone(GONE_SECONDS)
    run = RunFolder.open(path)
    assert_exact(run, steps)
    final = [identity(fragment) for fragment in read_log(path / "replay")]
    assert final[: len(acknowledged)] == acknowledged
    for row in read_metrics(run, "online"):
        assert row["critic_updates"] <= row["step"] + run.config().online.rate_tolerance_steps


def steps_logged(path) -> int:
    return sum(fragment.num_steps for fragment in read_log(path / "replay"))


def learnt(path) -> int:
    """Critic updates in the newest checkpoint."""
    _, state = load_checkpoint(RunFolder.open(path))
    updates = state.get("online", {}).get("updates", {"critic": 0})
    return int(updates["critic"])


def test_a_killed_driver_takes_its_processes_along_and_loses_nothing(pretrained, tmp_path):
    # No checkpoint but the first: whatever was learnt until the kill is owed again.
    kill_and_resume(pretrained, tmp_path / "run", ("any",), 600, checkpoint_updates=10**6)


@pytest.mark.slow
def test_killed_ten_times_at_random_instants(pretrained, tmp_path):
    kill_and_resume(pretrained, tmp_path / "run", 2 * INSTANTS, 4000, checkpoint_updates=5)


@pytest.mark.slow
def test_the_agents_of_the_node_are_gone_within_two_minutes(pretrained, tmp_path):
    path = tmp_path / "run"
    with Driver(finetune(pretrained, path, "--steps", "4000"), tmp_path / "output.txt") as driver:
        driver.wait_until(lambda: is_running(path, driver), "it trains")
        assert len(driver.offspring()) >= 10  # the session holds what we look for: 6 roles, Ray's servers and agents
        driver.kill()
        print(f"roles and servers gone after {driver.wait_until_gone(GONE_SECONDS, is_no_agent):.1f} s")
        print(f"agents gone after another {driver.wait_until_gone(AGENTS_GONE_SECONDS):.1f} s")
