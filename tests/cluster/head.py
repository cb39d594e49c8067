"""A real head node as `ray start --head` makes it, with its dashboard, and jobs submitted to it as a user does."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ray._private import ray_constants

from actors.cluster import health_check
from tests.faults.driver import REPOSITORY

START_SECONDS = 120.0
"""Longest start of the head, and ..."""
END_SECONDS = 60.0
"""... its longest end."""
JOB_SECONDS = 300.0
"""Longest job, on a machine that others use too."""
PORTS = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port", "metrics-export-port")


class Head:
    """A head of two cores on free ports of 127.0.0.1, with token authentication; a context manager.

    The programs beside this Python, `m3pc` among them, are on its path, as where a user has activated an environment.
    """

    def __init__(self) -> None:
        self._ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        self.folder = Path(tempfile.mkdtemp(prefix="m3pc-h-", dir="/tmp"))  # socket paths have room for 107 characters
        self.address = f"127.0.0.1:{self._ports['port']}"
        self.dashboard = f"http://127.0.0.1:{self._ports['dashboard-port']}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHONPATH"))}
        self.stranger = {
            **inherited,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")]),
            "RAY_API_SERVER_ADDRESS": self.dashboard,
            "HOME": str(self.folder),  # without the token of the user who runs the tests
        }
        """Environment variables of somebody without the token, and ..."""
        self.environment = {**self.stranger, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        """... of somebody who has it."""

    def __enter__(self) -> Head:
        words = [f"--{name}={port}" for name, port in self._ports.items()]
        words += [f"--temp-dir={self.folder / 'ray'}", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
        self._output = (self.folder / "output.txt").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            ray_command("start", "--head", "--block", "--disable-usage-stats", *words),
            cwd=self.folder,
            # The variable keeps Ray on loopback: left alone it replaces 127.0.0.1 by the machine's outward address.
            env={**self.environment, ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()  # it ends every process of its own
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._output.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def submit(self, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """`ray job submit --working-dir . OPTIONS -- WORDS` in the root of this repository, until the job has ended."""
        return self.ray("job", "submit", "--working-dir", ".", *options, "--", *words)

    def ray(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of Ray's in the root of this repository; its output as one text."""
        return run(ray_command(*words), self.environment)

    def _wait_until_ready(self) -> None:
        ends = time.monotonic() + START_SECONDS
        while True:
            said = (self.folder / "output.txt").read_text(encoding="utf-8")[-3000:]
            assert self._process.poll() is None, f"the head ended:\n{said}"
            assert time.monotonic() < ends, f"the head did not start:\n{said}"
            if "Ray runtime started" in said:
                break
            time.sleep(0.1)
        answer = health_check(self.address, self.environment)
        assert answer.returncode == 0, answer.stderr


def ray_command(*words: str) -> list[str]:
    """The command line of Ray that belongs to this Python."""
    return [sys.executable, "-m", "ray.scripts.scripts", *words]


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A command in the root of this repository; stdout and stderr come as one text, in stdout."""
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=JOB_SECONDS,
        check=False,
    )


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
