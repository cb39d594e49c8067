"""Errors of the model and its baselines against plain computations, window by window."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from m3pc_ray.baselines.dynamics import fit_dynamics
from m3pc_ray.baselines.inverse_dynamics import fit_inverse_dynamics
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.capabilities.dynamics import (
    forward_dynamics_errors,
    forward_dynamics_rows,
    model_errors,
    no_change_errors,
)
from m3pc_ray.evaluation.capabilities.prediction import (
    inpainting_rows,
    inverse_dynamics_rows,
    return_rows,
    reward_rows,
)
from m3pc_ray.evaluation.capabilities.windows import Windows, mean_and_error, sample_windows
from m3pc_ray.model import masks
from m3pc_ray.model.mlp import MLPConfig, Training
from m3pc_ray.training.assemble import Models, load_models
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from m3pc_ray.trajectories.returns import returns_to_go
from tests.tiny_run import make_tiny_run, random_hopper_episodes

TINY = Training(3, 16, config=MLPConfig(width=8, hidden_layers=1))


@pytest.fixture(scope="module")
def trajectories() -> Trajectories:
    return random_hopper_episodes(6, seed=20)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return load_models(make_tiny_run(tmp_path_factory.mktemp("errors") / "run"))


@pytest.fixture(scope="module")
def windows(models: Models, trajectories: Trajectories) -> Windows:
    return sample_windows(models, trajectories, 10_000, 0)


def plain_windows(models: Models, trajectories: Trajectories) -> list[dict[str, np.ndarray]]:
    """Every window of every episode, normalised by hand."""
    statistics, found = models.statistics, []
    tokens, _ = returns_to_go(trajectories, "average", models.time_limit)
    for start, end in zip(trajectories.episode_starts, trajectories.episode_starts[1:], strict=False):
        for first in range(start, end - 7):
            part = slice(first, first + 8)
            states = (trajectories.observations[part] - statistics.states_mean) / statistics.states_std
            rewards = (trajectories.rewards[part, None] - statistics.rewards_mean) / statistics.rewards_std
            returns = (tokens[part, None] - statistics.returns_mean) / statistics.returns_std
            actions = trajectories.actions[part]
            found.append({"states": states, "actions": actions, "rewards": rewards, "returns": returns})
    return found


def asked(models: Models, window: dict[str, np.ndarray], mask: np.ndarray, name: str) -> np.ndarray:
    tokens = {key: torch.as_tensor(values[None]) for key, values in window.items()}
    with torch.no_grad():
        prediction = models.model(tokens, mask)
    values = prediction.actions.mode() if name == "actions" else getattr(prediction, name)
    return values[0].numpy()


def test_forward_dynamics_window_by_window(models: Models, trajectories: Trajectories) -> None:
    expected: dict[int, list[float]] = {ahead: [] for ahead in range(1, 8)}
    for window in plain_windows(models, trajectories):
        states = asked(models, window, masks.forward_dynamics(8, 0), "states")
        for ahead in expected:
            expected[ahead].append(np.square(states[ahead] - window["states"][ahead]).mean())
    found = forward_dynamics_errors(models, trajectories)
    assert list(found) == list(expected)
    for ahead, values in expected.items():
        assert found[ahead] == pytest.approx(np.mean(values), rel=1e-4)


def test_no_change_is_exact(windows: Windows) -> None:
    states = windows.tokens["states"].numpy().astype(np.float64)
    for t in (0, 3):
        errors = no_change_errors(windows, t)
        assert list(errors) == list(range(1, 8 - t))
        for ahead, values in errors.items():
            expected = ((states[:, t + ahead] - states[:, t]) ** 2).mean(axis=1)
            np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("t", [0, 3])
def test_nothing_leaks_from_later_actions_when_they_are_hidden(models: Models, windows: Windows, t: int) -> None:
    changed_from = t + 2
    tokens = dict(windows.tokens)
    tokens["actions"] = tokens["actions"].clone()
    tokens["actions"][:, changed_from:] *= -1
    other = dataclasses.replace(windows, tokens=tokens)
    hidden, also_hidden = (model_errors(models, part, t, later_actions=False) for part in (windows, other))
    shown, also_shown = (model_errors(models, part, t) for part in (windows, other))
    for ahead in (1, 2):
        assert (hidden[ahead] == also_hidden[ahead]).all(), "bit for bit"
        assert (shown[ahead] != also_shown[ahead]).any(), "the plain mask does show them"
    assert (hidden[3] != also_hidden[3]).any(), "the action before the step asked for counts"


def test_rows_of_forward_dynamics(models: Models, trajectories: Trajectories, windows: Windows) -> None:
    network = fit_dynamics(trajectories, TINY).network
    rows = forward_dynamics_rows(models, windows, network, 3, {"mlp_steps": 3})
    assert [row["steps_ahead"] for row in rows] == list(range(1, 8))
    assert [row["error_with_history"] is None for row in rows] == [False] * 4 + [True] * 3
    states, std = trajectories.observations, models.statistics.states_std
    errors = []
    for start, end in zip(trajectories.episode_starts, trajectories.episode_starts[1:], strict=False):
        for first in range(start, end - 7):
            state = states[first]
            for step in range(2):
                inputs = np.concatenate([state, trajectories.actions[first + step]])
                state = state + network.predict(inputs[None])[0, :-1]
            errors.append(np.square((state - states[first + 2]) / std).mean())
    assert rows[1]["mlp_error"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert {"capability", "error", "error_sem", "no_change_error", "mlp_error", "mlp_steps"} <= set(rows[0])


def test_inverse_dynamics_sees_no_action_it_is_asked_for(
    models: Models, trajectories: Trajectories, windows: Windows
) -> None:
    network = fit_inverse_dynamics(trajectories, TINY).network
    mean = trajectories.actions.mean(axis=0)
    (row,) = inverse_dynamics_rows(models, windows, network, mean, 3, {})
    plain = plain_windows(models, trajectories)
    expected = [
        np.square(asked(models, window, masks.inverse_dynamics(8, 3), "actions")[3] - window["actions"][3]).mean()
        for window in plain
    ]
    assert row["error"] == pytest.approx(np.mean(expected), rel=1e-4)
    baseline = [np.square(mean - window["actions"][3]).mean() for window in plain]
    assert row["mean_action_error"] == pytest.approx(np.mean(baseline), rel=1e-4)
    tokens = dict(windows.tokens)
    tokens["states"] = tokens["states"].clone()
    tokens["states"][:, 5:] += 1.0
    (other,) = inverse_dynamics_rows(models, dataclasses.replace(windows, tokens=tokens), network, mean, 3, {})
    assert other["error_without_later_states"] == row["error_without_later_states"], "bit for bit"
    assert other["error"] != row["error"]


def test_rewards_returns_and_paths(models: Models, trajectories: Trajectories, windows: Windows) -> None:
    network = fit_dynamics(trajectories, TINY).network
    plain = plain_windows(models, trajectories)
    shown, hidden = reward_rows(models, windows, network, 3, {})
    for row, mask in ((shown, masks.reward_prediction(8)), (hidden, masks.forward_dynamics(8, 3))):
        expected = [
            np.square(asked(models, window, mask, "rewards")[3:] - window["rewards"][3:]).mean() for window in plain
        ]
        assert row["error"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert shown["mean_error"] == pytest.approx(
        np.mean([np.square(window["rewards"][3:]) for window in plain]), rel=1e-4
    )
    returns = return_rows(models, windows, 3)[0]
    expected = [
        np.square(asked(models, window, masks.reward_prediction(8), "returns")[3] - window["returns"][3])
        for window in plain
    ]
    assert returns["error"] == pytest.approx(np.mean(expected), rel=1e-4)
    three, six = inpainting_rows(models, windows, 3)
    assert (three["steps_between"], six["steps_between"]) == (3, 6)
    line = []
    for window in plain:
        for step in (4, 5, 6):
            share = (step - 3) / 4
            guess = (1 - share) * window["states"][3] + share * window["states"][7]
            line.append(np.square(guess - window["states"][step]).mean())
    assert three["interpolation_error"] == pytest.approx(np.mean(line), rel=1e-4)
    assert three["mask_was_trained"] is False


def test_returns_of_cut_episodes_are_left_out(models: Models, trajectories: Trajectories) -> None:
    ends = trajectories.episode_ends.copy()
    ends[::2] = EpisodeEnd.CUT
    windows = sample_windows(models, dataclasses.replace(trajectories, episode_ends=ends), 10_000, 0)
    row = return_rows(models, windows, 3)[0]
    assert row["windows"] == int((windows.episodes % 2 == 1).sum()) < len(windows)
    ends[:] = EpisodeEnd.CUT
    nothing = sample_windows(models, dataclasses.replace(trajectories, episode_ends=ends), 10_000, 0)
    assert return_rows(models, nothing, 3) == []


def test_windows_are_whole_distinct_and_the_same_for_a_seed(models: Models, trajectories: Trajectories) -> None:
    few, again, other = (sample_windows(models, trajectories, 12, seed) for seed in (0, 0, 1))
    assert len(few) == 12
    np.testing.assert_array_equal(few.states, again.states)
    assert (few.states != other.states).any()
    assert len(np.unique(few.states.reshape(12, -1), axis=0)) == 12
    for index, episode in enumerate(few.episodes):
        rows = slice(trajectories.episode_starts[episode], trajectories.episode_starts[episode + 1])
        inside = (trajectories.observations[rows] == few.states[index, 0]).all(axis=1)
        assert inside.sum() == 1
    short = trajectories.select([int(np.argmin(trajectories.lengths))])
    if short.lengths[0] < 8:
        with pytest.raises(UserError, match="no held-out episode"):
            sample_windows(models, short, 5, 0)


def test_standard_errors_are_those_of_episodes() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=40)
    mean, error = mean_and_error(values, np.arange(40))
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(40)), "independent values: the plain standard error"
    _, repeated = mean_and_error(np.repeat(values, 5), np.repeat(np.arange(40), 5))
    assert repeated == pytest.approx(error), "five copies of a value say no more than one"
    assert mean_and_error(values, np.zeros(40, dtype=int))[1] is None
