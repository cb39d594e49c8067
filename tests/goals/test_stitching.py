"""Stitching against the shortest path over all states, found plainly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from m3pc_ray.errors import UserError
from m3pc_ray.goals.stitching import stitch
from m3pc_ray.trajectories.episodes import DatasetMetadata, Trajectories
from m3pc_ray.trajectories.resolve import load


def make_trajectories(rng: np.random.Generator, lengths: list[int], observation_dim: int) -> Trajectories:
    steps = sum(lengths)
    return Trajectories(
        observations=rng.normal(size=(steps, observation_dim)).astype(np.float32),
        actions=np.zeros((steps, 1), dtype=np.float32),
        rewards=np.zeros(steps, dtype=np.float32),
        episode_starts=np.concatenate([[0], np.cumsum(lengths)]),
        episode_ends=np.zeros(len(lengths), dtype=np.int8),
        final_observations=np.zeros((len(lengths), observation_dim), dtype=np.float32),
        metadata=DatasetMetadata(
            "made up", "Nowhere-v0", (-1.0,) * observation_dim, (1.0,) * observation_dim, (-1.0,), (1.0,)
        ),
    )


def cost_of(
    rows: tuple[int, ...],
    steps: np.ndarray,
    wanted: np.ndarray,
    start: np.ndarray,
    data: Trajectories,
    std: np.ndarray,
    fidelity: float,
    first: int,
) -> float:
    """Of one sequence of rows, with the row that stands for the start; infinite where the data does not go on."""
    x = data.observations / std
    ends = np.repeat(data.episode_starts[1:] - 1, data.lengths)
    total = float(np.square(x[first] - start / std).mean())
    row, before = first, 0
    for k, step in enumerate(steps):
        led_to = row + step - before
        if led_to > ends[row]:
            return np.inf
        total += float(np.square(x[led_to] - x[rows[k]]).mean())
        fixed = ~np.isnan(wanted[k])
        if fixed.any():
            total += fidelity * float(np.square((x[rows[k]] - wanted[k] / std)[fixed]).mean())
        row, before = rows[k], step
    return total


@pytest.mark.parametrize("fidelity", [0.1, 1.0, 10.0])
def test_the_path_is_the_shortest_of_all(fidelity: float) -> None:
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    rng = np.random.default_rng(seed)
    data = make_trajectories(rng, lengths=[6, 4, 5], observation_dim=3)
    std = rng.uniform(0.5, 2.0, 3).astype(np.float32)
    steps = np.array([1, 3])
    wanted = rng.normal(size=(2, 3)).astype(np.float32)
    wanted[0, 1:] = np.nan
    wanted[1, 0] = np.nan
    start = rng.normal(size=3).astype(np.float32)
    found = stitch(steps, wanted, start, data, std, fidelity)
    everything = range(data.num_steps)
    costs = {
        rows: min(cost_of(rows, steps, wanted, start, data, std, fidelity, first) for first in everything)
        for rows in itertools.product(everything, repeat=2)
    }
    best = min(costs.values())
    assert costs[tuple(found.rows)] == pytest.approx(best, rel=1e-4), f"seed {seed}"
    np.testing.assert_array_equal(found.states, data.observations[found.rows])


def test_an_episode_of_the_data_is_found_again_without_a_jump() -> None:
    data = load("bundled/hopper")
    episode = int(data.lengths.argmax())
    first = int(data.episode_starts[episode])
    steps = np.arange(1, 40)
    wanted = np.full((len(steps), data.observation_dim), np.nan, dtype=np.float32)
    wanted[:, [0, 4]] = data.observations[first + steps][:, [0, 4]]
    std = data.observations.std(axis=0)
    found = stitch(steps, wanted, data.observations[first], data, std)
    assert found.jumps == 0
    np.testing.assert_array_equal(found.rows, first + steps)


def test_waypoints_that_fix_nothing_follow_the_data() -> None:
    rng = np.random.default_rng(0)
    data = make_trajectories(rng, lengths=[9, 9], observation_dim=2)
    wanted = np.full((5, 2), np.nan, dtype=np.float32)
    wanted[4] = data.observations[9 + 5]
    found = stitch(np.arange(1, 6), wanted, data.observations[9], data, np.ones(2, dtype=np.float32))
    np.testing.assert_array_equal(found.rows, 9 + np.arange(1, 6))


def test_more_fidelity_follows_more_closely_with_more_jumps() -> None:
    data = load("bundled/hopper")
    steps = np.arange(1, 80)
    wanted = np.full((len(steps), data.observation_dim), np.nan, dtype=np.float32)
    wanted[:, 4] = 0.5 * np.sin(0.2 * steps)
    std, start = data.observations.std(axis=0), data.observations[0]
    loose = stitch(steps, wanted, start, data, std, fidelity=0.01)
    close = stitch(steps, wanted, start, data, std, fidelity=10.0)
    errors = [np.abs(found.states[:, 4] - wanted[:, 4]).mean() for found in (loose, close)]
    assert errors[1] < errors[0]
    assert close.jumps > loose.jumps


def test_waypoints_too_far_apart_for_the_data_are_refused() -> None:
    data = make_trajectories(np.random.default_rng(0), lengths=[4, 4], observation_dim=2)
    with pytest.raises(UserError, match="no episode that goes on for 6 steps"):
        stitch(np.array([6]), np.zeros((1, 2), dtype=np.float32), np.zeros(2, dtype=np.float32), data, np.ones(2))
