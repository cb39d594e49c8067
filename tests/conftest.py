"""Tests share two cores with each other: one thread each, and no deadline for an example."""

import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

TESTS = Path(__file__).parent
PROCESSES_AND_WAITS = ("actors", "cluster", "faults", "tune")
"""Rooms whose tests start Ray, kill processes, and wait for what must happen within seconds."""


def pytest_collection_modifyitems(config, items):
    """Parts the tests between the processes of `make test`: those of one file share their fixtures, and those that
    start Ray follow each other in one process, so that only one Ray is up and at most one other test beside it."""
    if not config.getoption("numprocesses", None):
        return
    for item in items:
        room = item.path.relative_to(TESTS).parts[0]
        starts_ray = room in PROCESSES_AND_WAITS or "cluster" in item.fixturenames
        item.add_marker(pytest.mark.xdist_group("ray" if starts_ray else str(item.path)))


@pytest.fixture(scope="session")
def swirl_run(tmp_path_factory):
    """The path of a run that can steer: see tests/swirl.py. Nobody may write into it."""
    from tests.swirl import train_swirl_run  # here, because most tests need none

    return train_swirl_run(tmp_path_factory.mktemp("swirl")).path


@pytest.fixture(scope="session")
def cluster():
    """One lean local Ray for all tests of all folders, in a temporary folder of its own; its address."""
    import ray  # here, because most tests need none

    from actors.cluster import start_local

    folder = tempfile.mkdtemp(prefix="m3pc-", dir="/tmp")  # socket paths have room for 107 characters
    start_local(_temp_dir=folder, num_cpus=2)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
