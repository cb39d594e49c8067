import os

import gymnasium
import numpy as np
import pytest

from m3pc_ray.diagnosis import simulator
from m3pc_ray.diagnosis.simulator import check_rendering, check_simulator
from m3pc_ray.errors import UserError


class Breaking(gymnasium.Env):
    """Its second step gives NaN; it draws a frame of noise."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, render_mode=None, nan_from=2):
        self.render_mode, self.nan_from, self.steps = render_mode, nan_from, 0

    def reset(self, seed=None, options=None):
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        value = np.nan if self.steps >= self.nan_from else 0.5
        return np.full(2, value, np.float32), 1.0, False, False, {}


@pytest.fixture
def breaking():
    gymnasium.register("Breaking-v0", Breaking, max_episode_steps=50)
    yield "Breaking-v0"
    del gymnasium.registry["Breaking-v0"]


def test_a_sound_environment_passes():
    row, _ = check_simulator("Hopper-v4")
    assert row.status == "ok"
    assert "observations 11, actions 3" in row.found


def test_numbers_that_are_not_finite_fail(breaking):
    (row,) = check_simulator(breaking)
    assert (row.status, row.found) == ("failure", "step 2 gives numbers that are not finite")


def test_an_unknown_environment_is_named():
    with pytest.raises(UserError, match="Hoper-v4"):
        check_simulator("Hoper-v4")


def test_a_frame_is_drawn_where_some_backend_works():
    rows = [check_rendering("Hopper-v4", {**os.environ, "MUJOCO_GL": name}) for name in simulator.BACKENDS]
    if all(row.status == "warning" for row in rows):
        pytest.skip("no backend draws here")
    assert any("480 x 480" in row.found for row in rows if row.status == "ok")


def test_a_backend_that_does_not_draw_is_a_warning_that_names_what_to_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = check_rendering("Hopper-v4", {**os.environ, "MUJOCO_GL": "glfw", "DISPLAY": ""})
    assert row.status == "warning"
    assert "MUJOCO_GL=glfw" in row.found
    assert "MUJOCO_GL=" in row.advice
    assert list(tmp_path.iterdir()) == []  # MuJoCo's log went elsewhere


def test_a_driver_that_ends_the_process_is_a_warning(monkeypatch):
    monkeypatch.setattr(simulator, "_DRAW", "import os; os.abort()")
    row = check_rendering("Hopper-v4")
    assert row.status == "warning"
    assert "died of signal 6" in row.found


def test_a_driver_that_never_answers_is_a_warning(monkeypatch):
    monkeypatch.setattr(simulator, "_DRAW", "import time; time.sleep(60)")
    monkeypatch.setattr(simulator, "RENDER_SECONDS", 0.3)
    assert "no answer" in check_rendering("Hopper-v4").found
