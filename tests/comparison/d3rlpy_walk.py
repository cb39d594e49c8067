"""A random walk through a simulator, the same in both environments; needs gymnasium and numpy alone."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np

ENVIRONMENTS = ("Hopper-v4", "HalfCheetah-v4", "Walker2d-v4")


def walk(environment_id: str) -> dict[str, np.ndarray]:
    """Observations and rewards of 200 random actions from seeded resets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        environment = gymnasium.make(environment_id, disable_env_checker=True)
    rng = np.random.default_rng(0)
    observations, rewards = [environment.reset(seed=51_000)[0]], []
    for _ in range(200):
        action = rng.uniform(-1.0, 1.0, environment.action_space.shape).astype(np.float32)
        observation, reward, terminated, truncated, _ = environment.step(action)
        observations.append(observation)
        rewards.append(reward)
        if terminated or truncated:
            observations.append(environment.reset(seed=51_000 + len(rewards))[0])
    environment.close()
    return {f"{environment_id}-observations": np.array(observations), f"{environment_id}-rewards": np.array(rewards)}
