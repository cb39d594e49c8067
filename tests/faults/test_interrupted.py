"""Ctrl-C as the keyboard sends it: one checkpoint, exit code 130, nothing of ours left; a second one ends at once."""

import os
import signal
import time

import pytest

from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.training.checkpoints import list_checkpoints, load_checkpoint
from m3pc_ray.training.run_folder import RunFolder
from tests.faults.driver import Driver, finetune, live

pytestmark = pytest.mark.faults

GONE_SECONDS = 20.0
"""Until nothing of the driver is left; everything is gone before the driver itself where Ray closes in order."""
AT_ONCE_SECONDS = 30.0
"""Between a second Ctrl-C and the driver's end: 2 s were measured, most of it Ray's own shutdown."""


@pytest.fixture
def driver(pretrained, tmp_path):
    """A run that trains; the only checkpoint it writes by itself is the last."""
    command = finetune(pretrained, tmp_path / "run", "--steps", "100000", "--online.checkpoint_updates", "1000000")
    with Driver(command, tmp_path / "output.txt") as driver:
        driver.wait_until(lambda: (status := live(tmp_path / "run")) is not None and status.steps > 100, "it trains")
        yield driver


def press_control_c(driver: Driver) -> None:
    """SIGINT to the whole group of processes in the foreground, as a terminal does it."""
    os.killpg(driver.process.pid, signal.SIGINT)


def test_control_c_leaves_one_checkpoint_and_no_process(driver, tmp_path):
    press_control_c(driver)
    assert driver.wait() == 130
    print(f"all gone after another {driver.wait_until_gone(GONE_SECONDS):.1f} s")
    assert driver.output.read_text().splitlines()[-1] == "m3pc: interrupted"
    run = RunFolder.open(tmp_path / "run")
    summary = run.summary()
    assert summary["status"] == "interrupted"
    steps = summary["environment_steps"]
    assert list_checkpoints(run) == [0, steps]
    _, state = load_checkpoint(run)
    fragments = list(read_log(run.path / "replay"))
    updates = {"btm": summary["btm_updates"], "critic": summary["critic_updates"]}
    assert state["online"] == {"fragments": len(fragments), "steps": steps, "updates": updates}
    assert sum(fragment.num_steps for fragment in fragments) == steps
    status = live(run.path)
    assert status.state == "interrupted"
    assert {role.restarts for role in status.roles} == {0}  # the signal has reached the driver only


@pytest.mark.slow
def test_a_second_control_c_ends_a_stop_that_takes_too_long(driver, tmp_path):
    learner = next(role for role in live(tmp_path / "run").roles if role.kind == "learner")
    os.kill(learner.pid, signal.SIGSTOP)  # so that no checkpoint can be written
    press_control_c(driver)
    driver.wait_until(lambda: live(tmp_path / "run").notice.startswith("stopping"), "it stops")
    time.sleep(1.0)
    assert driver.process.poll() is None
    pressed = time.monotonic()
    press_control_c(driver)
    assert driver.wait() == 130
    seconds = time.monotonic() - pressed
    print(f"ended {seconds:.1f} s after the second Ctrl-C")
    assert seconds < AT_ONCE_SECONDS
    driver.wait_until_gone(GONE_SECONDS)
    run = RunFolder.open(tmp_path / "run")
    assert run.summary()["status"] == "interrupted"
    assert list_checkpoints(run) == [0]
