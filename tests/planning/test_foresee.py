"""Predictions for given actions: those that the same actions have as candidates."""

from typing import Any

import numpy as np
import pytest

from m3pc_ray.errors import UserError
from tests.planning.factory import TIME_LIMIT, assert_near, make_context, make_planner


@pytest.mark.parametrize("guide", ["return", "critic"])
@pytest.mark.parametrize("rewards_from", ["fd", "rp"])
def test_given_actions_are_foreseen_as_candidates_are(guide: Any, rewards_from: str) -> None:
    planner, _ = make_planner(0, rewards_from=rewards_from, num_candidates=6)
    context = make_context(1, [7, 12], context_length=3)
    details = planner.plan(context, guide=guide, details=True).details
    assert details is not None
    states, worth = planner.foresee(context, details.candidates[:, 1:5], guide=guide)
    assert_near(states, details.predicted_states[:, 1:5], "states")
    assert_near(worth, details.utilities[:, 1:5], "utilities", tolerance=1e-5 * TIME_LIMIT)
    drawn = planner.plan(context, guide=guide, sample=True, details=True).details
    assert drawn is not None
    np.testing.assert_array_equal(drawn.planned[:, 0], drawn.candidates[np.arange(2), drawn.chosen])
    for wrong in (details.candidates[:1], details.candidates[:, :, 1:]):
        with pytest.raises(UserError, match="cannot foresee actions"):
            planner.foresee(context, wrong, guide=guide)
    with pytest.raises(UserError, match="cannot foresee actions"):
        planner.foresee(make_context(1, [0, 7], context_length=3), details.candidates, guide=guide)
