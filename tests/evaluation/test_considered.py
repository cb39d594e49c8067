"""What was considered, computed again: the planner's own numbers, the plain algorithm's numbers, and what is real."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3pc_ray.agent import Agent
from m3pc_ray.environments.make import EnvironmentGroup, make_environment
from m3pc_ray.environments.simulator import SimulatorState, save_state
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.considered import Considered, carry_out, check_size, consider
from m3pc_ray.evaluation.plan_record import find_bodies
from m3pc_ray.evaluation.play import PlayedEpisode, contexts_of, play_episode
from m3pc_ray.planning.utility import softmax_probabilities
from tests.tiny_run import make_tiny_run

STEPS = [0, 2, 3, 5]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("considered") / "run").path


def played(agent: Agent, seed: int, deterministic: bool) -> tuple[PlayedEpisode, dict[int, SimulatorState]]:
    states: dict[int, SimulatorState] = {}
    with EnvironmentGroup("Hopper-v4", 1) as group:
        episode = play_episode(
            agent,
            group,
            seed,
            deterministic=deterministic,
            before=lambda step, environment: states.update({step: save_state(environment)}),
        )
    return episode, states


@pytest.mark.parametrize("guide", ["return", "critic"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_it_is_what_the_planner_used(run: Path, guide: Any, deterministic: bool) -> None:
    seed = int(np.random.default_rng().integers(1000))
    agent = Agent.load(run, planner=guide, num_candidates=16)
    episode, _ = played(agent, seed, deterministic)
    found = consider(agent, episode, STEPS, deterministic=deterministic)
    message = f"seed {seed}"
    assert found.action_difference == 0.0, message
    assert found.utility_difference < 1e-5, message
    np.testing.assert_array_equal(found.planned[:, 0], episode.actions[STEPS], err_msg=message)
    assert found.horizons.tolist() == [8, 6, 5, 5]
    # The plain algorithm, every token decoded, for the same randomness.
    plain = Agent.load(run, planner=guide, num_candidates=16, engine="plain")
    settings = agent.planner.config
    sharpness = getattr(settings, f"utility_sharpness_{guide}") / getattr(settings, f"utility_unit_{guide}")
    for row, step in enumerate(STEPS):
        context = contexts_of(plain, episode).select([step])
        expected = plain.planner.plan(context, guide=guide, sample=not deterministic, details=True).details
        assert expected is not None
        horizon = found.horizons[row]
        scale = max(1.0, float(np.abs(expected.utilities).max()))
        np.testing.assert_allclose(found.utilities[row], expected.utilities[0], atol=1e-4 * scale, err_msg=message)
        np.testing.assert_allclose(found.candidates[row, :, :horizon], expected.candidates[0], atol=1e-4)
        np.testing.assert_allclose(found.states[row, :, : horizon - 1], expected.predicted_states[0], atol=1e-3)
        assert np.isnan(found.candidates[row, :, horizon:]).all()
        probabilities = softmax_probabilities(torch.from_numpy(found.utilities[row : row + 1]), sharpness)
        np.testing.assert_allclose(found.probabilities[row], probabilities[0], atol=1e-4)
        chosen = found.chosen[row]
        if deterministic:
            assert chosen == -1
        else:
            np.testing.assert_array_equal(found.planned[row], found.candidates[row, chosen])
            np.testing.assert_allclose(found.planned_states[row], found.states[row, chosen], atol=1e-4)
            assert found.planned_utilities[row] == pytest.approx(found.utilities[row, chosen], abs=1e-4 * scale)


def test_carried_out_is_what_the_simulator_does_with_the_sequence(run: Path) -> None:
    agent = Agent.load(run, planner="critic")
    episode, states = played(agent, 7, True)
    steps = [0, 3, len(episode) - 2]
    found = consider(agent, episode, steps)
    followed = carry_out(agent, episode, found, [states[step] for step in steps])
    np.testing.assert_array_equal(followed[:, 0], episode.observations[np.array(steps) + 1], "the first step is real")
    environment = make_environment("Hopper-v4")
    environment.reset(seed=7)
    for action in episode.actions[:3]:
        environment.step(action)
    for ahead in range(4):  # decision 3 has a horizon of 5 actions and 4 states
        expected = environment.step(found.planned[1, ahead])[0]
        np.testing.assert_array_equal(followed[1, ahead], np.float32(expected))
    assert np.isnan(followed[1, 4:]).all()
    assert episode.terminated
    assert np.isfinite(followed[2, 0]).all()


def test_progress_may_stop_it_and_mistakes_are_named(run: Path) -> None:
    agent = Agent.load(run, planner="return")
    episode, _ = played(agent, 7, True)
    part = consider(agent, episode, STEPS, progress=lambda done: done == 2)
    assert part.steps.tolist() == STEPS[:2]
    assert len(part.candidates) == len(part.horizons) == 2
    with pytest.raises(UserError, match=f"step {len(episode)} of the episode's {len(episode)} decisions"):
        consider(agent, episode, [0, len(episode)])
    with pytest.raises(UserError, match="keep fewer decisions"):
        check_size(agent, 10**7)
    agent.guide = "none"
    with pytest.raises(UserError, match="considers no candidates"):
        consider(agent, episode, STEPS)


def test_bodies_are_the_real_ones_and_the_planned_ones(run: Path) -> None:
    agent = Agent.load(run, planner="return")
    episode, _ = played(agent, 7, True)
    found = consider(agent, episode, [4])
    # A plan that comes true draws the same body.
    horizon = int(found.horizons[0])
    states = np.full_like(found.planned_states, np.nan)
    states[0, : horizon - 1] = episode.observations[5 : 4 + horizon]
    true: Considered = dataclasses.replace(found, planned_states=states)
    environment = make_environment("Hopper-v4")
    bodies, _ = find_bodies(environment, episode, true)
    assert bodies is not None
    np.testing.assert_array_equal(bodies.real, bodies.planned)
    assert np.isfinite(bodies.real[0, :horizon]).all()
    other, _ = find_bodies(environment, episode, found)
    assert other is not None
    np.testing.assert_array_equal(other.planned[0, 0], bodies.real[0, 0])
    assert np.abs(other.planned[0, 1] - other.real[0, 1]).max() > 1e-3
