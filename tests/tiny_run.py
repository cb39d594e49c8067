"""A small run folder with random weights, made by the real functions: for tests of what uses runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from m3pc_ray.config import CriticConfig, DataConfig, EvaluationConfig, ModelConfig, PlannerConfig, RunConfig
from m3pc_ray.environments import make_environment, specification
from m3pc_ray.training.assemble import build_models
from m3pc_ray.training.checkpoints import save_checkpoint
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories

CHECKPOINT_STEP = 7


def random_hopper_episodes(episodes: int = 12, seed: int = 0) -> Trajectories:
    """Real Hopper episodes of a random policy; each ends when the hopper falls."""
    environment = make_environment("Hopper-v4")
    spec = specification(environment)
    rng = np.random.default_rng(seed)
    observations, actions, rewards, lengths, finals = [], [], [], [], []
    for episode in range(episodes):
        observation, _ = environment.reset(seed=seed + episode)
        length, over = 0, False
        while not over:
            action = rng.uniform(-1, 1, spec.action_dim).astype(np.float32)
            observations.append(observation)
            actions.append(action)
            observation, reward, terminated, truncated, _ = environment.step(action)
            rewards.append(reward)
            length, over = length + 1, terminated or truncated
        lengths.append(length)
        finals.append(observation)
    return Trajectories(
        observations=np.asarray(observations, np.float32),
        actions=np.asarray(actions, np.float32),
        rewards=np.asarray(rewards, np.float32),
        episode_starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        episode_ends=np.full(episodes, EpisodeEnd.TERMINATED, np.int8),
        final_observations=np.asarray(finals, np.float32),
        metadata=DatasetMetadata(
            name="random-hopper",
            environment_id="Hopper-v4",
            observation_low=(-np.inf,) * spec.observation_dim,
            observation_high=(np.inf,) * spec.observation_dim,
            action_low=(-1.0,) * spec.action_dim,
            action_high=(1.0,) * spec.action_dim,
            reference_min_score=-20.272305,
            reference_max_score=3234.3,
            reference_source="test",
            max_episode_steps=spec.time_limit,
        ),
    )


def make_tiny_run(
    path: Path, *, critic_updates: int = 1, trajectories: Trajectories | None = None, seed: int = 0
) -> RunFolder:
    """A run whose models have their first, random weights; critic_updates=0 marks the critic as untrained."""
    trajectories = random_hopper_episodes() if trajectories is None else trajectories
    config = RunConfig(
        seed=seed,
        device="cpu",
        data=DataConfig(dataset="random-hopper", validation_fraction=0.25),
        model=ModelConfig(width=16, heads=2),
        critic=CriticConfig(hidden_width=16),
        planner=PlannerConfig(num_candidates=8, precision="float32"),
        evaluation=EvaluationConfig(episodes=3, parallel_environments=2),
    )
    run = RunFolder.create(path, config, "pretrain")
    models = build_models(config, trajectories)
    tensors = {"btm": models.model.state_dict(), "critic": models.critic.state_dict()}
    state = {"models": models.description(), "critic_updates": critic_updates, "btm_updates": 1}
    save_checkpoint(run, CHECKPOINT_STEP, tensors, state)
    run.write_summary({"status": "finished"})
    return run
