import os
import subprocess

import pytest


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
