import pytest

from m3pc_ray.training.run_folder import RunFolder
from tests.online.factory import make_pretrained_run


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory) -> RunFolder:
    """A tiny pretrained run; tests only read it."""
    return make_pretrained_run(tmp_path_factory.mktemp("tune"))
