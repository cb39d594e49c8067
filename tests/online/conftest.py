import pytest

from m3pc_ray.online.replay.fragments import Fragment, closing_fragment
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.episodes import EpisodeEnd
from tests.online.factory import make_fragment, make_pretrained_run


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory) -> RunFolder:
    """A tiny pretrained run; tests only read it."""
    return make_pretrained_run(tmp_path_factory.mktemp("online"))


@pytest.fixture
def fragments() -> list[Fragment]:
    """Two episodes: one ends, the other goes on in a second fragment and is closed as cut by one of no steps."""
    return [
        make_fragment(0, 0, 4),
        make_fragment(1, 0, 2, EpisodeEnd.TERMINATED),
        make_fragment(0, 4, 3),
        closing_fragment(make_fragment(0, 4, 3), EpisodeEnd.CUT),
    ]
