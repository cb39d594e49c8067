"""The Decision Transformer at inference against a plain forward pass, one sequence at a time and without padding."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3pc_ray.comparison.decision_transformer import DecisionTransformer, DecisionTransformerAgent
from m3pc_ray.comparison.learner_file import save_learner
from m3pc_ray.config import EvaluationConfig
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.evaluate import run_episodes
from m3pc_ray.trajectories.episodes import DatasetMetadata

OBSERVATION_DIM, ACTION_DIM, WIDTH, HEADS, BLOCKS, CONTEXT, MOST = 4, 2, 12, 3, 2, 5, 30
FACTS: dict[str, Any] = {
    "heads": HEADS,
    "blocks": BLOCKS,
    "context_length": CONTEXT,
    "max_timestep": MOST,
    "reward_scale": 0.01,
    "target_return": 90.0,
    "updates": 7,
}


def random_tensors(rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Parameters of every name, none of them 0 or 1."""
    shapes: dict[str, tuple[int, ...]] = {"timestep.weight": (MOST + 1, WIDTH)}
    linear = {"observation": (WIDTH, OBSERVATION_DIM), "action": (WIDTH, ACTION_DIM), "return_to_go": (WIDTH, 1)}
    linear |= {"action_head": (ACTION_DIM, WIDTH)}
    norms = ["embedding_norm", "final_norm"]
    for block in range(BLOCKS):
        linear |= {f"blocks.{block}.{name}": (WIDTH, WIDTH) for name in ("key", "query", "value", "project")}
        linear |= {f"blocks.{block}.up": (4 * WIDTH, WIDTH), f"blocks.{block}.down": (WIDTH, 4 * WIDTH)}
        norms += [f"blocks.{block}.norm1", f"blocks.{block}.norm2"]
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        shapes |= {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}
    tensors = {name: rng.normal(scale=0.5, size=shape) for name, shape in shapes.items()}
    tensors["observation_mean"] = rng.normal(size=OBSERVATION_DIM)
    tensors["observation_scale"] = rng.uniform(0.5, 2.0, OBSERVATION_DIM)
    return {name: torch.as_tensor(values, dtype=torch.float32) for name, values in tensors.items()}


def plain_action(
    tensors: dict[str, torch.Tensor], observations: np.ndarray, actions: np.ndarray, returns: np.ndarray, first: int
) -> np.ndarray:
    """The action after the last of k observations (k, obs), with k - 1 actions and k returns-to-go; float64 numpy.

    `first`: time step of the first of them, from 1 on.
    """
    value = {name: tensor.double().numpy() for name, tensor in tensors.items()}

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ value[f"{name}.weight"].T + value[f"{name}.bias"]

    def norm(name: str, x: np.ndarray, epsilon: float) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        return scaled * value[f"{name}.weight"] + value[f"{name}.bias"]

    tokens = []
    for k, observation in enumerate(observations):
        when = value["timestep.weight"][min(first + k, MOST)]
        tokens.append(linear("return_to_go", np.array([returns[k] * FACTS["reward_scale"]])) + when)
        scaled = (observation - value["observation_mean"]) / value["observation_scale"]
        tokens.append(linear("observation", scaled) + when)
        if k < len(actions):
            tokens.append(linear("action", actions[k]) + when)
    x = norm("embedding_norm", np.stack(tokens), 1e-5)
    size = WIDTH // HEADS
    for block in range(BLOCKS):
        normed = norm(f"blocks.{block}.norm1", x, 0.003)
        query, key, content = (linear(f"blocks.{block}.{name}", normed) for name in ("query", "key", "value"))
        mixed = np.zeros_like(x)
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            for i in range(len(x)):
                scores = key[: i + 1, part] @ query[i, part] / math.sqrt(size)
                weights = np.exp(scores - scores.max())
                mixed[i, part] = weights / weights.sum() @ content[: i + 1, part]
        x = x + linear(f"blocks.{block}.project", mixed)
        normed = norm(f"blocks.{block}.norm2", x, 0.003)
        x = x + linear(f"blocks.{block}.down", np.maximum(linear(f"blocks.{block}.up", normed), 0.0))
    return np.tanh(linear("action_head", norm("final_norm", x, 0.003)[-1]))


def some_metadata(environment_id: str = "Some-v0") -> DatasetMetadata:
    return DatasetMetadata("some", environment_id, (), (), (-1.0,) * ACTION_DIM, (1.0,) * ACTION_DIM)


def test_an_agent_acts_as_the_plain_forward_pass_through_whole_episodes() -> None:
    rng = np.random.default_rng()
    tensors = random_tensors(rng)
    agent = DecisionTransformerAgent(DecisionTransformer(tensors, FACTS), some_metadata())
    starts = np.array([True, True, True])
    histories: list[dict[str, list[Any]]] = [{"o": [], "a": [], "g": []} for _ in range(3)]
    left = [90.0, 90.0, 90.0]
    order = np.array([2, 0, 1])  # rows of the group, in the order of the batch
    for step in range(CONTEXT + 4):
        rows = order if step != 3 else order[:2]  # a row may stay out of a batch
        observations = rng.normal(size=(len(rows), OBSERVATION_DIM)).astype(np.float32)
        if step == 6:  # row 0 begins an episode anew
            starts[0], left[0], histories[0] = True, 90.0, {"o": [], "a": [], "g": []}
        plan = agent.plan(observations, starts[rows], rows=rows)
        starts[:] = False
        for row, observation, action in zip(rows, observations, plan.actions, strict=True):
            history = histories[row]
            history["o"].append(observation)
            history["g"].append(left[row])
            steps = len(history["o"])
            shown = min(steps, CONTEXT)
            past = np.array(history["a"][len(history["a"]) - shown + 1 :]).reshape(-1, ACTION_DIM)
            expected = plain_action(
                tensors, np.array(history["o"][-shown:]), past, np.array(history["g"][-shown:]), steps - shown + 1
            )
            np.testing.assert_allclose(action, expected, atol=2e-5)
            history["a"].append(action)
        rewards = rng.uniform(-3.0, 3.0, len(rows)).astype(np.float32)
        agent.hear(rewards, rows)
        for row, reward in zip(rows, rewards, strict=True):
            left[row] -= float(reward)


def test_the_time_step_stays_at_the_last_that_is_known() -> None:
    rng = np.random.default_rng()
    tensors = random_tensors(rng)
    agent = DecisionTransformerAgent(DecisionTransformer(tensors, FACTS), some_metadata())
    observations = rng.normal(size=(MOST + CONTEXT, 1, OBSERVATION_DIM)).astype(np.float32)
    actions = [agent.plan(observation, [step == 0]).actions[0] for step, observation in enumerate(observations)]
    tail = slice(-CONTEXT, None)
    past = np.array(actions[-CONTEXT:-1])
    expected = plain_action(tensors, observations[tail, 0], past, np.full(CONTEXT, 90.0), MOST)
    np.testing.assert_allclose(actions[-1], expected, atol=2e-5)


def test_playing_episodes_tells_it_the_rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: dict[int, list[float]] = {0: [], 1: []}
    tensors = random_tensors(np.random.default_rng(0))
    network = DecisionTransformer(
        tensors
        | {"observation.weight": torch.randn(WIDTH, 3), "observation_mean": torch.zeros(3)}
        | {"observation_scale": torch.ones(3), "action.weight": torch.randn(WIDTH, 1)}
        | {"action_head.weight": torch.randn(1, WIDTH), "action_head.bias": torch.zeros(1)},
        FACTS,
    )
    agent = DecisionTransformerAgent(network, some_metadata().replace(action_low=(-2.0,), action_high=(2.0,)))
    hear = agent.hear

    def listen(rewards: np.ndarray, rows: np.ndarray) -> None:
        for row, reward in zip(rows, rewards, strict=True):
            heard[int(row)].append(float(reward))
        hear(rewards, rows)

    monkeypatch.setattr(agent, "hear", listen)
    with EnvironmentGroup("Pendulum-v1", 2, time_limit=12) as group:
        episodes = run_episodes(agent, group, EvaluationConfig(episodes=2, seed=3))
    np.testing.assert_allclose([sum(heard[row]) for row in (0, 1)], episodes.returns, rtol=1e-5)
    for row in (0, 1):
        assert agent._windows[row].left == pytest.approx(90.0 - episodes.returns[row], abs=1e-3)


def test_a_file_gives_the_same_network_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    tensors = random_tensors(np.random.default_rng())
    save_learner(tmp_path / "policy.safetensors", tensors, FACTS)
    loaded = DecisionTransformer.load(tmp_path / "policy.safetensors")
    assert (loaded.updates, loaded.context_length, loaded.target_return) == (7, CONTEXT, 90.0)
    observations = np.random.default_rng().normal(size=(3, OBSERVATION_DIM)).astype(np.float32)
    one, other = (
        DecisionTransformerAgent(network, some_metadata()) for network in (loaded, DecisionTransformer(tensors, FACTS))
    )
    np.testing.assert_array_equal(one.plan(observations).actions, other.plan(observations).actions)
    with pytest.raises(ValueError, match="nothing to sample"):
        one.plan(observations, deterministic=False)
    del tensors["observation_mean"]
    save_learner(tmp_path / "damaged.safetensors", tensors, FACTS)
    with pytest.raises(UserError, match="damaged.safetensors: no Decision Transformer: 'observation_mean' is missing"):
        DecisionTransformer.load(tmp_path / "damaged.safetensors")
