"""Seconds of training: what counts, what does not, what is remembered."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from m3pc_ray.comparison import accounting
from m3pc_ray.comparison.accounting import Account, cpu_seconds

BURN = "import time\nwhile time.process_time() < 0.4: pass\nprint('burnt', flush=True)\n"


def burn(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_cpu_seconds_count_this_process_and_those_it_started():
    before = cpu_seconds()
    burn(0.2)
    own = cpu_seconds() - before
    assert 0.2 <= own < 0.4

    before = cpu_seconds()
    # A grandchild burns, so that descendants are seen, not children alone.
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "burnt\n"
        running = cpu_seconds() - before
        child.stdin.close()
        child.wait()
    ended = cpu_seconds() - before
    assert running >= 0.4 - 0.05  # /proc counts in hundredths
    assert ended >= running - 0.05  # what has ended counts once more in the same sum, and not twice
    assert ended < 2 * 0.4 + 0.6


def test_waiting_takes_wall_time_alone_and_pauses_take_none(tmp_path):
    account, started = Account(tmp_path / "account.json"), time.monotonic()
    account.open(0)
    time.sleep(0.2)
    account.close()
    time.sleep(0.3)
    account.open(50)
    burn(0.1)
    account.close()
    elapsed = time.monotonic() - started
    assert account.spent(0)[0] + account.spent(50)[0] <= elapsed - 0.3
    wall, cpu = account.spent(0)
    assert wall >= 0.2
    assert cpu < 0.1
    wall, cpu = account.spent(50)
    assert cpu >= 0.1 - 0.02
    assert wall >= 0.1 - 0.02
    assert account.spent(100) == (0.0, 0.0)


def test_an_account_goes_on_where_it_stood(tmp_path, monkeypatch):
    monkeypatch.setattr(accounting, "WRITE_SECONDS", 0.0)
    account, started = Account(tmp_path / "account.json"), time.monotonic()
    account.open(0)
    time.sleep(0.1)
    account.note()  # and then the process is killed: nothing is closed
    kept = json.loads((tmp_path / "account.json").read_text())["0"]
    assert kept[0] >= 0.1
    again = Account(tmp_path / "account.json")
    again.open(0)
    time.sleep(0.1)
    again.close()
    assert kept[0] + 0.1 <= again.spent(0)[0] <= time.monotonic() - started
