import numpy as np
import pytest

from m3pc_ray.planning.diagnostics import decision_statistics, summarise_decisions
from m3pc_ray.planning.planner import Plan, PlanDetails


def plan_of_two_candidates() -> Plan:
    """Decision 0: utilities 1 and 3, P = .25 and .75, first actions -0.5 and 0.5. Decision 1: indifferent."""
    details = PlanDetails(
        candidates=np.array([[[[-0.5]], [[0.5]]], [[[0.2]], [[0.2]]]], dtype=np.float32),
        utilities=np.array([[1.0, 3.0], [2.0, 2.0]], dtype=np.float32),
        probabilities=np.array([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32),
        predicted_states=np.zeros((2, 2, 0, 1), dtype=np.float32),
        predicted_rewards=np.zeros((2, 2, 1), dtype=np.float32),
        terminal_values=np.zeros((2, 2, 1), dtype=np.float32),
        effective_sample_size=np.array([1.6, 2.0], dtype=np.float32),
        chosen=np.array([-1, -1]),
    )
    return Plan(np.zeros((2, 1), dtype=np.float32), details)


def test_statistics_of_each_decision() -> None:
    statistics = decision_statistics(plan_of_two_candidates())
    expected = {
        "effective_sample_size": [1.6, 2.0],
        "effective_fraction": [0.8, 1.0],
        "utility_spread": [1.0, 0.0],
        "utility_range": [2.0, 0.0],
        "greatest_probability": [0.75, 0.5],
        "expected_gain": [0.5, 0.0],
        "action_spread": [0.5, 0.0],
        "action_shift": [0.25, 0.0],
    }
    assert statistics.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(statistics[name], values, atol=1e-6, err_msg=name)


def test_summary_is_over_decisions() -> None:
    summary = summarise_decisions([decision_statistics(plan_of_two_candidates())] * 3)
    assert summary["utility_spread"] == pytest.approx(0.5)
    assert summary["effective_sample_size_p10"] == pytest.approx(1.6)
    assert summary["effective_sample_size_p90"] == pytest.approx(2.0)


def test_nothing_to_examine() -> None:
    with pytest.raises(ValueError, match="details=True"):
        decision_statistics(Plan(np.zeros((1, 1), dtype=np.float32)))
    with pytest.raises(ValueError, match="no decision"):
        summarise_decisions([])
