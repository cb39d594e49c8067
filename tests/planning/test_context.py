import numpy as np
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.planning.context import ContextWindow
from m3pc_ray.planning.randomness import decision_noise


def keys(batch: int) -> np.ndarray:
    return np.zeros((batch, 3), dtype=np.uint64)


def test_window_holds_the_last_steps_left_aligned() -> None:
    window = ContextWindow(2, observation_dim=1, action_dim=1, context_length=2)
    for row in range(2):
        window.reset(row, [100.0 * row])
    for step in range(4):  # only environment 1 is stepped
        window.append(1, [0.1 * step], [101.0 + step])
        context = window.context(keys(2))
        first = max(0, step + 1 - 2)
        known = min(step + 1, 2)
        assert context.timesteps.tolist() == [0, step + 1]
        assert context.positions.tolist() == [0, known]
        assert context.observations[1, : known + 1, 0].tolist() == [100.0 + s for s in range(first, step + 2)]
        np.testing.assert_allclose(context.actions[1, :known, 0], [0.1 * s for s in range(first, step + 1)], rtol=1e-6)
        assert not context.observations[1, known + 1 :].any()
        assert not context.actions[1, known:].any()
    assert context.observations[0, :, 0].tolist() == [0.0, 0.0, 0.0]


def test_reset_forgets_the_episode_before() -> None:
    window = ContextWindow(1, 1, 1, context_length=2)
    window.reset(0, [1.0])
    for step in range(5):
        window.append(0, [0.5], [float(step)])
    window.reset(0, [7.0])
    context = window.context(keys(1))
    assert context.timesteps.tolist() == [0]
    assert context.observations[0, :, 0].tolist() == [7.0, 0.0, 0.0]
    assert not context.actions.any()


def test_context_without_a_past_holds_the_current_observation() -> None:
    window = ContextWindow(1, 1, 1, context_length=0)
    window.reset(0, [1.0])
    window.append(0, [0.5], [2.0])
    context = window.context(keys(1))
    assert context.observations.tolist() == [[[2.0]]]
    assert context.positions.tolist() == [0]
    assert context.timesteps.tolist() == [1]


def test_context_is_a_copy() -> None:
    window = ContextWindow(1, 1, 1, context_length=1)
    window.reset(0, [1.0])
    context = window.context(keys(1))
    window.append(0, [0.5], [2.0])
    assert context.observations.tolist() == [[[1.0], [0.0]]]


def test_malformed_context_names_what_is_wrong() -> None:
    window = ContextWindow(2, 3, 1, context_length=1)
    context = window.context(keys(2))
    context.check(3, 1)
    with pytest.raises(UserError, match="observations has shape"):
        context.check(4, 1)
    context.observations[1, 0, 2] = np.nan
    with pytest.raises(UserError, match="observations of environment 1"):
        context.check(3, 1)


def test_noise_depends_on_the_key_alone() -> None:
    rows = np.array([[1, 2, 3], [1, 2, 4], [1, 5, 3], [9, 2, 3]], dtype=np.uint64)
    noise, uniform = decision_noise(rows, 6, 3, 2)
    assert noise.shape == (4, 6, 3, 2)
    for row in range(4):
        alone, alone_uniform = decision_noise(rows[row : row + 1], 6, 3, 2)
        np.testing.assert_array_equal(alone[0], noise[row])
        assert alone_uniform[0] == uniform[row]
    assert len({part.tobytes() for part in noise}) == 4, "seed, stream and step must each change the numbers"
    assert len(set(uniform.tolist())) == 4


def test_noise_is_standard_normal() -> None:
    rows = np.stack([np.full(200, 3), np.arange(200), np.arange(200)], axis=1).astype(np.uint64)
    noise, uniform = decision_noise(rows, 64, 5, 3)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1.0) < 0.01
    assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 0.01
    assert uniform.min() >= 0.0
    assert uniform.max() < 1.0
    assert abs(uniform.mean() - 0.5) < 0.08
