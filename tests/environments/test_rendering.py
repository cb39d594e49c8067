import os
import subprocess
import sys

import numpy as np
import pytest

from m3pc_ray.environments import rendering
from m3pc_ray.environments.make import make_environment
from m3pc_ray.environments.poses import current_positions
from m3pc_ray.environments.rendering import render_positions, working_backend
from m3pc_ray.errors import UserError


@pytest.fixture(autouse=True)
def _fresh_search():
    rendering._search.cache_clear()
    yield
    rendering._search.cache_clear()


@pytest.fixture(scope="module")
def hopper():
    environment = make_environment("Hopper-v4")
    environment.reset(seed=0)
    yield environment
    environment.close()


@pytest.fixture
def _can_draw():
    if working_backend() is None:
        pytest.skip("neither EGL nor OSMesa draws here")


def standing(environment, steps):
    return np.tile(current_positions(environment), (steps, 1))


@pytest.mark.usefixtures("_can_draw")
def test_frames_show_the_positions(hopper):
    positions = standing(hopper, 4)
    positions[2, 3] -= 1.0  # the thigh
    before = current_positions(hopper)
    frames = list(render_positions(hopper, positions, width=160, height=120))
    assert [frame.shape for frame in frames] == [(120, 160, 3)] * 4
    assert all(frame.dtype == np.uint8 and np.ptp(frame) > 50 for frame in frames)
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[2] != frames[0]).any()
    np.testing.assert_array_equal(current_positions(hopper), before)


@pytest.mark.usefixtures("_can_draw")
def test_the_camera_follows_and_the_wanted_figure_is_seen(hopper):
    positions = standing(hopper, 3)
    positions[1, 0] += 4.0
    wanted = positions.copy()
    wanted[:, 3] -= 1.0
    wanted[2] = np.nan
    frames = list(render_positions(hopper, positions, width=160, height=120, wanted=wanted))
    plain = list(render_positions(hopper, positions, width=160, height=120))
    changed = [np.argwhere((frame != other).any(axis=2)) for frame, other in zip(frames, plain, strict=True)]
    assert len(changed[0]) > 50
    assert abs(changed[1].mean(axis=0) - changed[0].mean(axis=0)).max() < 3  # in the same place of the picture
    assert len(changed[2]) == 0


@pytest.mark.usefixtures("_can_draw")
def test_a_large_frame_and_frames_left_unread(hopper):
    frames = render_positions(hopper, standing(hopper, 50), width=700, height=500)
    assert next(frames).shape == (500, 700, 3)  # larger than the models' own buffer
    frames.close()


def test_without_a_backend_the_message_says_what_was_tried_and_what_to_do(hopper, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    assert working_backend() is None
    with pytest.raises(UserError) as error:
        render_positions(hopper, standing(hopper, 1))
    text = str(error.value)
    assert "MUJOCO_GL=nonsense: invalid value for environment variable MUJOCO_GL" in text
    assert "unset MUJOCO_GL" in text
    assert "libegl1 or libosmesa6" in text
    assert "--video-style stick" in text
    assert "\n" not in text


def test_both_backends_are_named_when_both_fail(hopper, monkeypatch, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import os, sys\nif os.environ['MUJOCO_GL'] == 'egl':\n    os.abort()\nsys.exit('no such driver')\n"
    )
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "_SCRIPT", broken)
    with pytest.raises(
        UserError, match=r"MUJOCO_GL=egl: the process died of signal 6; MUJOCO_GL=osmesa: no such driver"
    ):
        render_positions(hopper, standing(hopper, 1))


def test_the_second_backend_is_taken_where_the_first_fails(monkeypatch, tmp_path):
    script = tmp_path / "second.py"
    script.write_text(
        "import os, sys\nassert os.environ['MUJOCO_GL'] == 'osmesa'\nsys.stdout.buffer.write(bytes(range(256)) * 12)\n"
    )
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "_SCRIPT", script)
    assert working_backend() == "osmesa"
    monkeypatch.setenv("MUJOCO_GL", "egl")  # the user's word: no other is tried
    assert working_backend() is None


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import sys; sys.stdout.buffer.write(bytes(32 * 32 * 3))", "one colour only"),
        ("import time; time.sleep(60)", "no picture in"),
        ("", "exit code 0"),
    ],
)
def test_a_backend_that_draws_nothing_does_not_count(monkeypatch, tmp_path, script, reason):
    path = tmp_path / "script.py"
    path.write_text(script)
    monkeypatch.setattr(rendering, "_SCRIPT", path)
    if "sleep" in script:
        monkeypatch.setattr(rendering, "TRIAL_SECONDS", 0.3)
    assert reason in rendering._try("egl")


def test_drawing_turned_off_is_said(hopper, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disabled")
    with pytest.raises(UserError, match="MUJOCO_GL=disabled: it turns drawing off"):
        render_positions(hopper, standing(hopper, 1))


def test_a_driver_that_fails_in_the_middle_is_said(hopper, monkeypatch, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nsize = int(sys.argv[2]) * int(sys.argv[3]) * 3\nsys.stdout.buffer.write(bytes(range(256)) * 12)\n"
        "sys.stdout.flush()\nif size != 3072:\n    raise RuntimeError('context lost')\n"
    )
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "_SCRIPT", script)
    frames = render_positions(hopper, standing(hopper, 3), width=32, height=20)
    next(frames)
    with pytest.raises(UserError, match=r"stopped at frame 1 \(MUJOCO_GL=egl\): context lost"):
        next(frames)


def test_bad_positions_and_sizes_are_said_before_anything_is_drawn(hopper):
    with pytest.raises(UserError, match=r"\(2, 3\); Hopper-v4 needs \(steps, 6\)"):
        render_positions(hopper, np.zeros((2, 3)))
    with pytest.raises(UserError, match="step 1 has positions that are not finite"):
        render_positions(hopper, [[0.0] * 6, [np.nan] * 6])
    with pytest.raises(UserError, match="wanted positions have shape"):
        render_positions(hopper, np.zeros((2, 6)), wanted=np.zeros((1, 6)))
    with pytest.raises(UserError, match="width 0 of a video"):
        render_positions(hopper, np.zeros((2, 6)), width=0)
    with pytest.raises(UserError, match="Pendulum-v1 is not simulated by MuJoCo"):
        render_positions(make_environment("Pendulum-v1"), np.zeros((1, 2)))


def test_a_wrong_backend_is_said_when_an_environment_is_made(tmp_path):
    """In a process of its own: MuJoCo refuses it when it is first imported."""
    script = "from m3pc_ray.environments.make import make_environment\nmake_environment('Hopper-v4')"
    variables = {**os.environ, "MUJOCO_GL": "nonsense", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=variables, cwd=tmp_path, check=False
    )
    last = answer.stderr.splitlines()[-1]
    assert last.startswith("m3pc_ray.errors.UserError: environment Hopper-v4 cannot be made: invalid value")
    assert last.endswith("MUJOCO_GL: nonsense")
