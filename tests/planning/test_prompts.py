import json

import numpy as np
import pytest

from m3pc_ray.planning.prompts import ReturnPrompt


def prompt(scale: str = "average") -> ReturnPrompt:
    return ReturnPrompt(np.array([5.0, 4.0, 3.0, 2.0], dtype=np.float32), best_return=8.0, scale=scale, time_limit=4)


def test_every_step_of_the_window_asks_for_its_own_best() -> None:
    values = prompt().values(np.array([0, 2]), np.array([0, 1]), 3, "best_at_step", 1.0)
    assert values.tolist() == [[5.0, 4.0, 3.0], [4.0, 3.0, 2.0]]


def test_steps_beyond_the_time_limit_repeat_the_last() -> None:
    assert prompt().values(np.array([3]), np.array([1]), 4, "best_at_step", 1.0).tolist() == [[3.0, 2.0, 2.0, 2.0]]


@pytest.mark.parametrize(("scale", "expected"), [("sum", 8.0), ("average", 2.0)])
def test_best_return_of_the_data_at_every_step(scale: str, expected: float) -> None:
    values = prompt(scale).values(np.array([0, 3]), np.array([0, 2]), 3, "best", 1.0)
    assert values.tolist() == [[expected] * 3] * 2


def test_ratio_acts_on_the_sum() -> None:
    values = prompt().values(np.array([0]), np.array([0]), 2, "best_at_step", 0.5)
    assert values.tolist() == [[2.5, 2.0]]
    assert prompt("sum").values(np.array([0]), np.array([0]), 1, "best", 1.5).tolist() == [[12.0]]


def test_json_round_trip() -> None:
    again = ReturnPrompt.from_dict(json.loads(json.dumps(prompt().to_dict())))
    np.testing.assert_array_equal(again.best_at_step, prompt().best_at_step)
    assert (again.best_return, again.scale, again.time_limit) == (8.0, "average", 4)
