import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m3pc_ray.planning.utility import effective_sample_size, softmax_probabilities, td_lambda_weights, utility
from tests.planning.slow_algorithm import slow_utility


def test_worked_weights() -> None:
    """The example of method.md."""
    assert td_lambda_weights(4, 0.6).tolist() == pytest.approx([0.4, 0.24, 0.144, 0.216])
    assert td_lambda_weights(1, 0.6).tolist() == [1.0]


@given(horizon=st.integers(1, 12), td_lambda=st.floats(0.0, 1.0))
def test_weights_sum_to_one(horizon: int, td_lambda: float) -> None:
    assert td_lambda_weights(horizon, td_lambda).sum().item() == pytest.approx(1.0, abs=1e-6)


def test_worked_utility() -> None:
    """h = 2, lambda 0.5, gamma 0.9: U = 0.5 g0 + 0.5 (r0 + 0.9 g1) = 0.5 * 10 + 0.5 * (1 + 18) = 14.5."""
    value = utility(torch.tensor([1.0, 777.0]), torch.tensor([10.0, 20.0]), discount=0.9, td_lambda=0.5)
    assert value.item() == pytest.approx(14.5)


def test_one_step_is_the_terminal_value() -> None:
    assert utility(torch.tensor([5.0]), torch.tensor([3.0]), 0.9, 0.6).item() == 3.0
    assert utility(torch.empty(0), torch.tensor([3.0]), 0.9, 0.6).item() == 3.0


@pytest.mark.parametrize("td_lambda", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("horizon", range(1, 9))
def test_utility_equals_the_slow_loop(horizon: int, td_lambda: float) -> None:
    rng = np.random.default_rng(horizon)
    rewards, values = rng.normal(size=(3, 4, horizon)), rng.normal(size=(3, 4, horizon))
    fast = utility(torch.tensor(rewards), torch.tensor(values), 0.97, td_lambda)
    assert fast.shape == (3, 4)
    for index in np.ndindex(3, 4):
        expected = slow_utility(rewards[index].tolist(), values[index].tolist(), 0.97, td_lambda)
        assert fast[index].item() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_softmax_of_utilities() -> None:
    utilities = torch.tensor([[3000.0, 3000.5, 2999.0], [1.0, 1.0, 1.0]])
    probabilities = softmax_probabilities(utilities, sharpness=2.0)
    expected = np.exp([0.0, 1.0, -2.0]) / np.exp([0.0, 1.0, -2.0]).sum()
    np.testing.assert_allclose(probabilities[0], expected, rtol=1e-9)
    np.testing.assert_allclose(probabilities[1], 1 / 3)


def test_effective_sample_size() -> None:
    probabilities = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25] * 4, [0.5, 0.5, 0.0, 0.0]])
    assert effective_sample_size(probabilities).tolist() == pytest.approx([1.0, 4.0, 2.0])
