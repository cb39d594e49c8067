import shutil
import tempfile

import pytest
import ray

from actors.cluster import start_local
from m3pc_ray.training.run_folder import RunFolder
from tests.online.factory import make_pretrained_run


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory) -> RunFolder:
    """A tiny pretrained run; tests only read it."""
    return make_pretrained_run(tmp_path_factory.mktemp("actors"))


@pytest.fixture(scope="session")
def cluster():
    """One lean local Ray for all tests, in a temporary folder of its own; its address."""
    folder = tempfile.mkdtemp(prefix="m3pc-", dir="/tmp")  # socket paths have room for 107 characters
    start_local(_temp_dir=folder, num_cpus=2)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
