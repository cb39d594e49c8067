from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.goals.reading import read_waypoints
from m3pc_ray.goals.waypoints import Waypoints

HOPPER, DIM = "Hopper-v4", 11
HEAD = "import numpy as np\nfrom m3pc_ray.goals.waypoints import Waypoints\n"


def read(folder: Path, body: str, name: str = "make", every: int = 1) -> Waypoints:
    path = folder / "my goals.py"
    path.write_text(HEAD + body)
    return read_waypoints(f"{path}:{name}", HOPPER, DIM, every)


def test_an_array(tmp_path: Path) -> None:
    searched, modules = list(sys.path), set(sys.modules)
    waypoints = read(
        tmp_path,
        "def make(environment_id, observation_dim):\n"
        "    assert environment_id == 'Hopper-v4'\n"
        "    return [[float(k)] * observation_dim for k in range(3)]\n",
        every=4,
    )
    assert waypoints.steps.tolist() == [4, 8, 12]
    np.testing.assert_array_equal(waypoints.states, np.arange(3.0)[:, None] * np.ones(DIM))
    assert waypoints.states.dtype == np.float32
    assert waypoints.source == f"{tmp_path / 'my goals.py'}:make"
    assert sys.path == searched
    assert set(sys.modules) == modules


def test_a_pair_of_steps_and_states(tmp_path: Path) -> None:
    waypoints = read(tmp_path, "def make(e, n):\n    return [3, 9.0], np.ones((2, n))\n", every=4)
    assert waypoints.steps.tolist() == [3, 9]
    assert waypoints.steps.dtype == np.int64


def test_waypoints_that_drift(tmp_path: Path) -> None:
    body = (
        "def make(e, n):\n"
        "    states = np.zeros((2, n), dtype=np.float64)\n"
        "    return Waypoints(np.array([2, 4], dtype=np.int32), states, 'mine', lambda t, s: states + t)\n"
    )
    waypoints = read(tmp_path, body)
    assert waypoints.moving is not None
    np.testing.assert_array_equal(waypoints.moving(3, np.zeros(DIM, np.float32)), np.full((2, DIM), 3.0))
    assert waypoints.states.dtype == np.float32
    assert waypoints.steps.dtype == np.int64
    assert waypoints.source.endswith("my goals.py:make")


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (
            "def make(e, n):\n    raise ValueError('no such\\nknee')\n",
            [":make: the function failed (ValueError: no such knee)"],
        ),
        ("def make():\n    return 1\n", [":make: the function failed (TypeError: make() takes 0"]),
        ("def make(e, n):\n    raise SystemExit('bye')\n", ["the function failed (SystemExit: bye)"]),
        ("import nothing_of_that_name\n", ["running the file failed (ModuleNotFoundError: No module named"]),
        ("def make(:\n", ["running the file failed (SyntaxError"]),
        ("def maker(e, n):\n    return 1\n", ["no function 'make'; did you mean maker?"]),
        ("def wiggle(e, n):\n    return 1\n", ["no function 'make'; functions there: wiggle"]),
        ("make = 3\n", ["no function 'make'; functions there: none"]),
        (
            "def make(e, n):\n    return np.ones((4, 3))\n",
            ["of 3 dimensions; 11 are needed: torso_height, torso_angle"],
        ),
        ("def make(e, n):\n    return np.ones(n)\n", ["of shape (11,); (waypoints, 11) is needed", "torso_height"]),
        ("def make(e, n):\n    return None\n", ["of shape (); (waypoints, 11) is needed", "torso_height"]),
        ("def make(e, n):\n    return {'a': 1}\n", ["returned a dict", "an array (waypoints, observation_dim)"]),
        ("def make(e, n):\n    return [[1.0], [1.0, 2.0]]\n", ["returned a list (ValueError"]),
        ("def make(e, n):\n    return [1.5, 2], np.ones((2, n))\n", ["its steps hold 1.5; whole numbers"]),
        ("def make(e, n):\n    return [1, np.inf], np.ones((2, n))\n", ["its steps hold inf; whole numbers"]),
        ("def make(e, n):\n    return ['a', 'b'], np.ones((2, n))\n", ["its steps are no numbers"]),
        ("def make(e, n):\n    return [1, 2, 3], np.ones((2, n))\n", [":make: 2 waypoints have steps of shape (3,)"]),
        ("def make(e, n):\n    return [2, 2], np.ones((2, n))\n", [":make: waypoint 2 is at step 2, not after"]),
        ("def make(e, n):\n    return np.full((2, n), 1e39)\n", [":make: waypoint 1 is infinite in dimension 0"]),
        ("def make(e, n):\n    return np.full((2, n), np.nan)\n", [":make: waypoint 1 fixes no dimension"]),
        ("def make(e, n):\n    return np.ones((0, n))\n", [":make: waypoints have shape (0, 11)"]),
        (
            "def make(e, n):\n    return Waypoints(np.array([0]), np.ones((1, n)), 'mine')\n",
            [":make: the function failed (mine: the first waypoint is at step 0"],
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_goes_wrong_names_file_and_function(tmp_path: Path, body: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        read(tmp_path, body)
    message = str(raised.value)
    assert message.startswith(str(tmp_path / "my goals.py"))
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_the_example_in_the_documentation(tmp_path: Path) -> None:
    from m3pc_ray.goals import user_function

    example = (user_function.__doc__ or "").split("The function returns")[0].split("\n", 2)[2]
    path = tmp_path / "example.py"
    path.write_text("\n".join(line.removeprefix("    ") for line in example.splitlines()))
    waypoints = read_waypoints(f"{path}:crouch", HOPPER, DIM, every=2)
    assert len(waypoints) == 40
    assert np.flatnonzero(waypoints.fixed).tolist() == [0]
