import os
import subprocess

import pytest

from m3pc_ray.training.run_folder import RunFolder
from tests.online.factory import make_pretrained_run


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory) -> RunFolder:
    """A tiny pretrained run; tests only read it."""
    return make_pretrained_run(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def small_disk(tmp_path, request):
    """A file system of one MiB, or of as many as the test's parameter says."""
    size = 2**20 * getattr(request, "param", 1)
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "m3pc-test", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # some tests leave files open, as processes that die
