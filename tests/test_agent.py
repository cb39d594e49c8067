"""The agent against a planner loop written out by hand, one environment against many, and its complaints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m3pc_ray.agent import Agent
from m3pc_ray.config import Guide
from m3pc_ray.errors import UserError
from m3pc_ray.planning.context import ContextWindow
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.training.assemble import load_models
from m3pc_ray.training.run_folder import RunFolder
from tests.tiny_run import CHECKPOINT_STEP, make_tiny_run, random_hopper_episodes


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_run(tmp_path_factory.mktemp("agent") / "run").path


@pytest.fixture(scope="module")
def observations() -> np.ndarray:
    """(steps, 3, observation_dim): three streams of plausible observations."""
    data = random_hopper_episodes(12).observations
    return data[: len(data) // 3 * 3].reshape(3, -1, 11).swapaxes(0, 1)[:10]


@pytest.mark.parametrize("guide", ["none", "return", "critic"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_agent_equals_a_loop_written_by_hand(
    run: Path, observations: np.ndarray, guide: Guide, deterministic: bool
) -> None:
    agent = Agent.load(run, planner=guide, seed=5)
    models = load_models(RunFolder.open(run))
    planner = ForwardPlanner(models.model, models.critic, models.config.planner, 0.99, models.prompt)
    window = ContextWindow(1, 11, 3, models.config.planner.context_length)
    action = np.zeros(3, np.float32)
    episode, step = -1, 0
    for time, observation in enumerate(observations[:, 0]):
        start = time in (0, 6)  # the second episode starts at time 6, past a full context
        if start:
            episode, step = episode + 1, 0
            window.reset(0, observation)
        else:
            step += 1
            window.append(0, action, observation)
        context = window.context(np.array([[5, episode, step]], dtype=np.uint64))
        action = planner.plan(context, guide=guide, sample=not deterministic).actions[0]
        predicted = agent.predict(observation, start, deterministic)
        assert predicted.shape == (3,)
        np.testing.assert_array_equal(predicted, action)


def test_one_environment_and_many_give_the_same_actions(run: Path, observations: np.ndarray) -> None:
    starts = np.zeros((len(observations), 3), dtype=bool)
    starts[0] = True
    starts[4, 1] = starts[7, 2] = True  # rows restart at different times
    many = Agent.load(run, planner="critic")
    together = [
        many.plan(row, start, deterministic=False, streams=[10, 11, 12]).actions
        for row, start in zip(observations, starts, strict=True)
    ]
    for row in range(3):
        single = Agent.load(run, planner="critic")
        for time in range(len(observations)):
            plan = single.plan(
                observations[time, row : row + 1], starts[time, row], deterministic=False, streams=[10 + row]
            )
            np.testing.assert_allclose(plan.actions[0], together[time][row], atol=1e-5)


def test_rows_may_drop_out_of_the_batch(run: Path, observations: np.ndarray) -> None:
    full, shrinking = Agent.load(run, planner="return"), Agent.load(run, planner="return")
    for time, row in enumerate(observations):
        expected = full.plan(row).actions
        rows = np.arange(3) if time < 4 else np.array([0, 2])
        found = shrinking.plan(row[rows], rows=rows).actions
        np.testing.assert_allclose(found, expected[rows], atol=1e-5)


def test_first_call_starts_episodes_and_reset_forgets(run: Path, observations: np.ndarray) -> None:
    agent = Agent.load(run, planner="none")
    first = agent.predict(observations[0])
    second = agent.predict(observations[1])
    assert agent.context().timesteps.tolist() == [1, 1, 1]
    agent.reset()
    np.testing.assert_array_equal(agent.predict(observations[0]), first)
    assert agent.context().timesteps.tolist() == [0, 0, 0]
    assert not np.allclose(agent.predict(observations[1], True), second), "without its past it must act differently"


def test_sampling_follows_the_seed(run: Path, observations: np.ndarray) -> None:
    actions = {
        seed: Agent.load(run, planner="none", seed=seed).predict(observations[0], deterministic=False)
        for seed in (1, 2)
    }
    again = Agent.load(run, planner="none", seed=1).predict(observations[0], deterministic=False)
    np.testing.assert_array_equal(actions[1], again)
    assert not np.allclose(actions[1], actions[2])
    agent = Agent.load(run, planner="none", seed=1)
    same = np.repeat(observations[0, :1], 3, axis=0)
    assert len(np.unique(agent.predict(same, deterministic=False), axis=0)) == 3, "each row has a stream of its own"


def test_actions_come_in_the_bounds_of_the_environment(run: Path, observations: np.ndarray) -> None:
    agent = Agent.load(run, planner="none")
    wide = Agent(
        agent.planner,
        observation_dim=11,
        action_low=[-2.0, 0.0, -1.0],
        action_high=[2.0, 10.0, 1.0],
        environment_id="X",
    )
    for row in observations:
        plain, scaled = agent.predict(row), wide.predict(row)
        np.testing.assert_allclose(scaled, plain * [2.0, 5.0, 1.0] + [0.0, 5.0, 0.0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(wide.context().actions, agent.context().actions, atol=1e-6)


def test_loading_takes_overrides_and_checkpoints(run: Path) -> None:
    agent = Agent.load(run, checkpoint=CHECKPOINT_STEP, planner="return", num_candidates=5, horizon=2)
    assert (agent.planner.config.num_candidates, agent.planner.config.horizon, agent.guide) == (5, 2, "return")
    assert agent.environment_id == "Hopper-v4"
    with pytest.raises(UserError, match="num_candidate"):
        Agent.load(run, num_candidate=5)
    with pytest.raises(UserError, match="99"):
        Agent.load(run, checkpoint=99)
    with pytest.raises(UserError, match="nowhere"):
        Agent.load(run / "nowhere")


def test_an_untrained_critic_does_not_guide(tmp_path: Path) -> None:
    run = make_tiny_run(tmp_path / "run", critic_updates=0)
    with pytest.raises(UserError, match="no trained critic"):
        Agent.load(run.path, planner="critic")
    agent = Agent.load(run.path, planner="none")
    with pytest.raises(UserError, match="no trained critic"):
        agent.guide = "critic"
    assert agent.guide == "none"
    assert Agent.load(run.path).guide == "return"


def test_bad_calls_are_explained(run: Path, observations: np.ndarray) -> None:
    agent = Agent.load(run, planner="none")
    with pytest.raises(UserError, match=r"shape \(4,\).*\(11,\)"):
        agent.predict(np.zeros(4))
    spoiled = observations[0].copy()
    spoiled[1, 3] = np.nan
    with pytest.raises(UserError, match="environment 1 is nan at index 3"):
        agent.predict(spoiled)
    with pytest.raises(UserError, match="has not started"):
        agent.predict(observations[0], [True, False, True])
    agent.reset()
    agent.predict(observations[0])
    with pytest.raises(UserError, match=r"2 observations for 3 environments.*reset"):
        agent.predict(observations[1][:2])
    with pytest.raises(UserError, match=r"episode_start has shape \(2,\)"):
        agent.predict(observations[1], [True, False])
    with pytest.raises(UserError, match="none, return, critic"):
        agent.guide = "best"  # type: ignore[assignment]


def test_a_warm_start_travels_with_the_requests(run: Path, observations: np.ndarray) -> None:
    """The planner keeps nothing: the agent's memory hands it what the plan before has left, of each episode its own."""
    agent = Agent.load(run, planner="return", warm_start=True, num_candidates=4)
    plans = [agent.plan(observations[0])]
    assert agent.context().previous is not None
    seen = []
    original = agent.planner.plan
    agent.planner.plan = lambda context, **options: (seen.append(context), original(context, **options))[1]  # type: ignore[method-assign]
    starts = np.arange(len(observations[1])) == 0
    plans.append(agent.plan(observations[1], starts))
    assert np.isnan(seen[0].previous[0]).all()
    np.testing.assert_array_equal(seen[0].previous[1:], plans[0].rest[1:])
    assert np.isfinite(seen[0].previous[1:, 0]).all()
    cold = Agent.load(run, planner="return", num_candidates=4)
    assert cold.plan(observations[0]).rest is None
    assert cold.context().previous is None
