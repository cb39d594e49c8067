"""Recorded episodes against a plain loop over one environment after another."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from m3pc_ray.environments.actions import to_environment_range
from m3pc_ray.environments.make import EnvironmentGroup, make_environment
from m3pc_ray.evaluation.reaching.episodes import run_episodes
from m3pc_ray.goal_agent import GoalAgent
from m3pc_ray.goals.success import VisitsWaypoints
from m3pc_ray.goals.task import GoalProblem
from m3pc_ray.goals.waypoints import Waypoints
from m3pc_ray.training.assemble import Models, load_models
from tests.tiny_run import make_tiny_run

SEEDS = [21, 22, 23]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return load_models(make_tiny_run(tmp_path_factory.mktemp("episodes") / "run"))


def make_problem(models: Models, steps: list[int], last: int, moving: bool = False) -> GoalProblem:
    """States are all `step / 10`; those that move are wanted at `now / 10` instead, whatever is seen."""
    states = np.repeat(np.array(steps, dtype=np.float32)[:, np.newaxis] / 10, 11, axis=1)
    states[:, 3] = np.nan
    waypoints = Waypoints(
        np.array(steps), states, "test", (lambda step, seen: np.full_like(states, step / 10)) if moving else None
    )
    wanted = np.full((last + 1, 11), np.nan, dtype=np.float32)
    inside = waypoints.steps <= last
    wanted[waypoints.steps[inside]] = states[inside]
    success = VisitsWaypoints(waypoints, models.statistics.states_std)
    return GoalProblem("test", models.environment_id, waypoints, wanted, 0, (0,), success)


def plain_loop(models: Models, problem: GoalProblem, seed: int) -> tuple[np.ndarray, list[float], bool]:
    """Observations, qpos[0] and termination of one episode, in one environment of its own."""
    environment = make_environment("Hopper-v4")
    agent = GoalAgent(models, problem.waypoints)
    observation, _ = environment.reset(seed=seed)
    observations, places = [observation], [environment.unwrapped.data.qpos[0]]  # type: ignore[attr-defined]
    terminated = False
    for _ in range(problem.episode_steps):
        plan = agent.plan(np.float32(observation)[np.newaxis], streams=[seed])
        (action,) = to_environment_range(plan.actions, agent.action_low, agent.action_high)
        observation, _, terminated, truncated, _ = environment.step(action)
        observations.append(observation)
        places.append(environment.unwrapped.data.qpos[0])  # type: ignore[attr-defined]
        if terminated or truncated:
            break
    environment.close()
    return np.array(observations, dtype=np.float32), places, bool(terminated)


def test_episodes_are_what_the_simulator_showed(models: Models) -> None:
    """Long enough that the hopper, whose model knows nothing, falls; the rows' episodes end at different steps."""
    problem = make_problem(models, [4, 9, 400], 400)
    steps = []
    with EnvironmentGroup("Hopper-v4", 4) as group:
        episodes = run_episodes(
            GoalAgent(models, problem.waypoints),
            problem,
            group,
            SEEDS,
            has_track=True,
            progress=lambda step, most: steps.append((step, most)),
        )
        again = run_episodes(GoalAgent(models, problem.waypoints), problem, group, SEEDS)
    for episode, repeated in zip(episodes, again, strict=True):
        observations, places, terminated = plain_loop(models, problem, episode.seed)
        assert terminated
        assert episode.terminated
        np.testing.assert_allclose(episode.reached, observations, atol=1e-3)
        assert episode.forward is not None
        np.testing.assert_allclose(episode.forward, places, atol=1e-3)
        np.testing.assert_array_equal(episode.wanted, problem.wanted)
        np.testing.assert_array_equal(repeated.reached, episode.reached, "same seeds, same bits")
        assert repeated.forward is None
    assert [episode.seed for episode in episodes] == SEEDS
    longest = max(len(episode.reached) for episode in episodes) - 1
    assert steps == [(step, 400) for step in range(1, longest + 1)], "nothing goes on when all are over"


def test_an_episode_ends_with_the_plan(models: Models) -> None:
    problem = make_problem(models, [2, 5], 5)
    with EnvironmentGroup("Hopper-v4", 3) as group:
        episodes = run_episodes(GoalAgent(models, problem.waypoints), problem, group, SEEDS)
    assert [(len(episode.reached), episode.terminated) for episode in episodes] == [(6, False)] * 3


@pytest.mark.parametrize("missed", ["move_on", "wait"])
def test_goals_that_move_are_recorded_where_they_were_when_due(models: Models, missed: str) -> None:
    """At the last state too, where no decision is made; waiting does not move what is measured."""
    backward = dataclasses.replace(models.config.backward, missed=missed)
    waiting = dataclasses.replace(models, config=dataclasses.replace(models.config, backward=backward))
    problem = make_problem(models, [2, 5, 8, 11], 8, moving=True)
    with EnvironmentGroup("Hopper-v4", 3) as group:
        episodes = run_episodes(GoalAgent(waiting, problem.waypoints), problem, group, SEEDS)
    for episode in episodes:
        assert np.flatnonzero(~np.isnan(episode.wanted).all(axis=1)).tolist() == [2, 5, 8]
        np.testing.assert_allclose(episode.wanted[[2, 5, 8], 3], [0.2, 0.5, 0.8], rtol=1e-6)


def test_goals_after_an_early_end_stay_where_they_were_first(models: Models) -> None:
    problem = make_problem(models, [2, 399], 400, moving=True)
    moved = Waypoints(
        problem.waypoints.steps, problem.waypoints.states, "", lambda step, seen: np.full((2, 11), -1.0, np.float32)
    )
    problem = dataclasses.replace(problem, waypoints=moved)
    with EnvironmentGroup("Hopper-v4", 1) as group:
        (episode,) = run_episodes(GoalAgent(models, moved), problem, group, SEEDS[:1])
    assert episode.terminated
    assert len(episode.reached) < 399
    np.testing.assert_array_equal(episode.wanted[2], np.full(11, -1.0))
    np.testing.assert_array_equal(episode.wanted[399], problem.wanted[399])
