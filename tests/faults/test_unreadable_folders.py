"""Folders that cannot be read or written: one clear error that names the path."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from m3pc_ray.cli import main
from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.online.replay.rate_limiter import RateLimiter
from m3pc_ray.online.replay.replay_keeper import ReplayKeeper
from m3pc_ray.online.replay.replay_log import read_log
from m3pc_ray.training.checkpoints import load_checkpoint, save_checkpoint
from m3pc_ray.training.run_folder import RunFolder
from tests.online.factory import make_fragment

pytestmark = pytest.mark.faults


def keeper(folder: Path) -> ReplayKeeper:
    return ReplayKeeper(folder, RateLimiter(1000, {"critic": 1.0}, 10, 5), 3, 2)


def test_a_replay_folder_below_a_file(tmp_path):
    (tmp_path / "run").write_text("not a folder")
    with pytest.raises(UserError, match=r"run/replay: cannot make the replay's folder"):
        keeper(tmp_path / "run" / "replay")


def test_a_folder_where_a_log_file_should_be(tmp_path):
    (tmp_path / "log-000000.arrow").mkdir()
    with pytest.raises(UserError, match=r"log-000000\.arrow"):
        keeper(tmp_path)


def test_a_run_that_is_a_file(tmp_path, capsys):
    (tmp_path / "run").write_text("not a folder")
    assert main(["resume", str(tmp_path / "run")]) == 2
    assert "run: no such run folder" in capsys.readouterr().err
    with pytest.raises(UserError, match="cannot write the checkpoint: Not a directory"):
        save_checkpoint(tmp_path / "run", 1, {"btm": {"weight": torch.zeros(1)}}, {})


@pytest.fixture
def locked_run(tmp_path):
    """A whole run that another user may look at, but for the folder that a test locks."""
    run = RunFolder.create(tmp_path / "run", RunConfig(), "finetune")
    save_checkpoint(run, 1, {"btm": {"weight": torch.zeros(1)}}, {})
    it = keeper(run.path / "replay")
    it.append([make_fragment(0, 0, 3)])
    it.close()
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and str(folder).startswith("/tmp/pytest"):
            folder.chmod(0o755)
    subprocess.run(["chmod", "-R", "a+rX", str(run.path)], check=True)
    return run


PROBES = {
    "checkpoints": "from m3pc_ray.training.checkpoints import load_checkpoint as act",
    "checkpoints/step-00000001": "from m3pc_ray.training.checkpoints import load_checkpoint as act",
    "replay": (
        "from m3pc_ray.online.replay.replay_log import read_log\nact = lambda run: list(read_log(run / 'replay'))"
    ),
    "replay/log-000000.arrow": (
        "from m3pc_ray.online.replay.replay_log import read_log\nact = lambda run: list(read_log(run / 'replay'))"
    ),
}
PROGRAM = """
import os, sys
from pathlib import Path
from m3pc_ray.errors import UserError
{probe}
os.setuid(65534)
try:
    act(Path(sys.argv[1]))
except UserError as error:
    print(error)
    sys.exit(0)
sys.exit("no error")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a process that drops its rights to another user's needs root")
@pytest.mark.parametrize("name", PROBES)
def test_what_another_user_may_not_read(locked_run, name):
    (locked_run.path / name).chmod(0o000)
    program = PROGRAM.format(probe=PROBES[name])
    done = subprocess.run(
        [sys.executable, "-c", program, str(locked_run.path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if name == "checkpoints/step-00000001":  # as a damaged one: passed over, and none is left
        assert "no complete checkpoint" in done.stdout
        assert "Permission denied" in done.stderr
    else:
        assert str(locked_run.path / name) in done.stdout
        assert "Permission denied" in done.stdout
    (locked_run.path / name).chmod(0o755)
    assert load_checkpoint(locked_run)[1] == {}
    assert len(list(read_log(locked_run.path / "replay"))) == 1


@pytest.mark.parametrize("name", ["iterdir", "stat"])
def test_an_input_output_error_of_the_folder(locked_run, monkeypatch, name):
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, name, fail)
        for act in (load_checkpoint, lambda run: list(read_log(run.path / "replay"))):
            with pytest.raises(UserError, match="Input/output error|cannot"):
                act(locked_run)
