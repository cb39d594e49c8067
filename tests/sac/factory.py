"""An environment whose next observation is the action it was given, so that tests see what really was executed."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from m3pc_ray.sac.settings import SacSettings
from m3pc_ray.trajectories.episodes import EpisodeEnd, Trajectories
from m3pc_ray.trajectories.validation import environment_facts, metadata_of

ECHO = "m3pc-tests/Echo-v0"
LOW, HIGH = np.float32([-3.0, 0.5]), np.float32([1.0, 10.0])
TIME_LIMIT = 7


class Echo(gymnasium.Env):
    """Observation: the latest action (0 after a reset) and a draw; ends by itself with probability 0.1 a step."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,))
    action_space = gymnasium.spaces.Box(LOW, HIGH)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.array([0.0, 0.0, self.np_random.normal()]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen = np.array([*action, self.np_random.normal()])
        return seen, float(-np.abs(action - LOW).sum()), bool(self.np_random.random() < 0.1), False, {}


if ECHO not in gymnasium.registry:
    gymnasium.register(ECHO, entry_point=Echo, max_episode_steps=TIME_LIMIT)

TINY = {"hidden_width": 8, "batch_size": 16, "learning_starts": 20, "buffer_size": 1000}


def tiny_sac(**changes: Any) -> SacSettings:
    return SacSettings(**{**TINY, **changes})


def tiny_rlpd(**changes: Any) -> SacSettings:
    return SacSettings.rlpd(**{**TINY, "updates_per_step": 2, **changes})


def offline_episodes(seed: int, reward: float = 100.0) -> Trajectories:
    """One episode of each kind of end, and a cut one whose last successor is unknown; 5 steps each."""
    rng = np.random.default_rng(seed)
    finals = rng.normal(size=(4, 3))
    finals[3] = np.nan
    return Trajectories(
        observations=rng.normal(size=(20, 3)),
        actions=rng.uniform(LOW, HIGH, size=(20, 2)),
        rewards=np.full(20, reward) + np.arange(20),
        episode_starts=np.arange(0, 21, 5),
        episode_ends=np.array([EpisodeEnd.TERMINATED, EpisodeEnd.TIME_LIMIT, EpisodeEnd.CUT, EpisodeEnd.CUT]),
        final_observations=finals,
        metadata=metadata_of(environment_facts(ECHO), "offline"),
    )
