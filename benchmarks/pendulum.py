"""Pendulums whose steps cost what a benchmark wants: next to nothing, or a simulated time in which the core is free.

    m3pc_ray.benchmarks.pendulum:CheapPendulum-v0    a few microseconds a step, episodes of 200 steps
    m3pc_ray.benchmarks.pendulum:SlowPendulum-v0     20 ms a step (a sleep), episodes of 100 steps

Gymnasium imports the module before the colon, so that actors in other processes can make them too. The task is
Pendulum-v1's, in plain floats: for a single environment they take a fifth of the time of numpy's arrays of length one.
"""

from __future__ import annotations

import math
import time
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from m3pc_ray.environments.make import make_environment, specification
from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories

CHEAP = f"{__name__}:CheapPendulum-v0"
SLOW = f"{__name__}:SlowPendulum-v0"
SLOW_STEP_SECONDS = 0.02
"""Simulated time of a step of SLOW."""

MAX_TORQUE, MAX_SPEED, STEP, GRAVITY = 2.0, 8.0, 0.05, 10.0


class Pendulum(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Swing a pendulum up: observations (cos, sin, speed), a torque as action; ends by its time limit only.

    Args:
        step_seconds: time slept in every step.
    """

    def __init__(self, step_seconds: float = 0.0) -> None:
        bound = np.array([1.0, 1.0, MAX_SPEED], dtype=np.float32)
        self.observation_space = gymnasium.spaces.Box(-bound, bound)
        self.action_space = gymnasium.spaces.Box(-MAX_TORQUE, MAX_TORQUE, (1,))
        self._step_seconds = step_seconds
        self._angle = self._speed = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Anywhere, at a low speed."""
        super().reset(seed=seed, options=options)
        self._angle = float(self.np_random.uniform(-math.pi, math.pi))
        self._speed = float(self.np_random.uniform(-1.0, 1.0))
        return self._observation(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Pendulum-v1's dynamics and cost."""
        if self._step_seconds:
            time.sleep(self._step_seconds)
        torque = min(max(float(action[0]), -MAX_TORQUE), MAX_TORQUE)
        from_top = (self._angle + math.pi) % (2.0 * math.pi) - math.pi
        cost = from_top**2 + 0.1 * self._speed**2 + 0.001 * torque**2
        speed = self._speed + (1.5 * GRAVITY * math.sin(self._angle) + 3.0 * torque) * STEP
        self._speed = min(max(speed, -MAX_SPEED), MAX_SPEED)
        self._angle += self._speed * STEP
        return self._observation(), -cost, False, False, {}

    def _observation(self) -> NDArray[np.float32]:
        return np.array((math.cos(self._angle), math.sin(self._angle), self._speed), dtype=np.float32)


def random_episodes(environment_id: str, episodes: int = 20, seed: int = 0) -> Trajectories:
    """A data set of a random policy in CHEAP or SLOW; nothing is slept for it."""
    described = make_environment(environment_id)
    spec = specification(described)
    described.close()
    environment, length = Pendulum(), spec.time_limit
    rng = np.random.default_rng(seed)
    observations = np.empty((episodes, length + 1, spec.observation_dim), dtype=np.float32)
    actions = rng.uniform(spec.action_low, spec.action_high, (episodes, length, spec.action_dim)).astype(np.float32)
    rewards = np.empty((episodes, length), dtype=np.float32)
    for episode in range(episodes):
        observations[episode, 0], _ = environment.reset(seed=seed + episode)
        for step in range(length):
            observations[episode, step + 1], rewards[episode, step], *_ = environment.step(actions[episode, step])
    assert isinstance(environment.observation_space, gymnasium.spaces.Box)
    return Trajectories(
        observations=observations[:, :-1].reshape(-1, spec.observation_dim),
        actions=actions.reshape(-1, spec.action_dim),
        rewards=rewards.reshape(-1),
        episode_starts=np.arange(0, episodes * length + 1, length),
        episode_ends=np.full(episodes, EpisodeEnd.TIME_LIMIT, dtype=np.int8),
        final_observations=observations[:, -1],
        metadata=DatasetMetadata(
            name="random-pendulum",
            environment_id=environment_id,
            observation_low=tuple(map(float, environment.observation_space.low)),
            observation_high=tuple(map(float, environment.observation_space.high)),
            action_low=tuple(map(float, spec.action_low)),
            action_high=tuple(map(float, spec.action_high)),
            max_episode_steps=length,
        ),
    )


gymnasium.register("CheapPendulum-v0", entry_point=f"{__name__}:Pendulum", max_episode_steps=200)
gymnasium.register(
    "SlowPendulum-v0",
    entry_point=f"{__name__}:Pendulum",
    max_episode_steps=100,
    kwargs={"step_seconds": SLOW_STEP_SECONDS},
)
