"""A tiny system that can be steered anywhere, and a run trained on it in seconds: for tests that goals are reached.

s' = 0.85 turn(0.1 rad) s + 0.25 a,  s and a in the plane: left alone, a state circles the origin and comes closer.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from m3pc_ray.config import (
    BackwardConfig,
    CriticConfig,
    DataConfig,
    LoggingConfig,
    MaskConfig,
    ModelConfig,
    PretrainConfig,
    RunConfig,
)
from m3pc_ray.training.pretraining import Pretraining
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories
from m3pc_ray.trajectories.store import write_store

ENVIRONMENT = "SwirlOfTheTests-v0"
TIME_LIMIT, ANGLE, DAMPING, PUSH = 40, 0.1, 0.85, 0.25
TURN = DAMPING * np.array([[math.cos(ANGLE), -math.sin(ANGLE)], [math.sin(ANGLE), math.cos(ANGLE)]])


class Swirl(gymnasium.Env[np.ndarray, np.ndarray]):
    """Observes its state (2,); actions lie in [-1, 1]. Terminates where it is farther out than `edge`."""

    dt = 0.1
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, edge: float = 6.0) -> None:
        self.edge, self.state = edge, np.zeros(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-0.1, 0.1, 2)
        return self.state.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.state = TURN @ self.state + PUSH * np.clip(action, -1.0, 1.0)
        return self.state.astype(np.float32), 0.0, bool(np.linalg.norm(self.state) > self.edge), False, {}


gymnasium.register(ENVIRONMENT, entry_point=Swirl, max_episode_steps=TIME_LIMIT)


def best_action(state: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """The action (2,) after which the state is the goal, or as close to it as an action takes it."""
    return np.clip((goal - TURN @ state) / PUSH, -1.0, 1.0)


def random_episodes(episodes: int = 150, seed: int = 0) -> Trajectories:
    """Pushes at random, each for a few steps: nobody goes anywhere on purpose."""
    rng, environment = np.random.default_rng(seed), Swirl()
    observations, actions, finals = [], [], []
    for _ in range(episodes):
        state, _ = environment.reset(seed=int(rng.integers(2**31)))
        for step in range(TIME_LIMIT):
            if step % 3 == 0:
                action = rng.uniform(-0.95, 0.95, 2).astype(np.float32)
            observations.append(state)
            actions.append(action)
            state, *_ = environment.step(action)
        finals.append(state)
    return Trajectories(
        observations=np.asarray(observations, np.float32),
        actions=np.asarray(actions, np.float32),
        rewards=np.zeros(len(actions), np.float32),
        episode_starts=np.arange(episodes + 1, dtype=np.int64) * TIME_LIMIT,
        episode_ends=np.full(episodes, EpisodeEnd.TIME_LIMIT, np.int8),
        final_observations=np.asarray(finals, np.float32),
        metadata=DatasetMetadata(
            name="random-swirl",
            environment_id=ENVIRONMENT,
            observation_low=(-np.inf,) * 2,
            observation_high=(np.inf,) * 2,
            action_low=(-1.0,) * 2,
            action_high=(1.0,) * 2,
            max_episode_steps=TIME_LIMIT,
        ),
    )


def train_swirl_run(folder: Path, steps: int = 400) -> RunFolder:
    """A run trained by the real pretraining; its data set lies beside it in `dataset`."""
    trajectories = random_episodes()
    write_store(trajectories, folder / "dataset")
    config = RunConfig(
        seed=1,
        device="cpu",
        data=DataConfig(dataset=str(folder / "dataset"), validation_fraction=0.1),
        model=ModelConfig(segment_length=6, width=32, heads=2, encoder_layers=1),
        masks=MaskConfig(
            groups=2,
            test_mask_fraction=1.0,
            rcbc_weight=0.0,
            forward_dynamics_weight=0.0,
            reward_prediction_weight=0.0,
            path_inpainting_weight=0.4,
            inverse_dynamics_weight=0.4,
            goal_weight=0.1,
            behaviour_cloning_weight=0.1,
        ),
        pretrain=PretrainConfig(
            components="btm",
            optimizer="adamw",
            steps=steps,
            batch_size=128,
            learning_rate=4e-3,
            warmup_steps=20,
            precision="float32",
            threads=1,
        ),
        critic=CriticConfig(updates=1, hidden_width=16),
        backward=BackwardConfig(context_length=2),
        logging=LoggingConfig(tensorboard=False),
    )
    run = RunFolder.create(folder / "run", config, "pretrain")
    Pretraining(run, config, trajectories).train()
    return run
