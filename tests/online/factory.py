"""A tiny pretrained run on a short, real task, for tests of online finetuning."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from m3pc_ray.config import (
    CriticConfig,
    DataConfig,
    EvaluationConfig,
    LoggingConfig,
    ModelConfig,
    OnlineConfig,
    PlannerConfig,
    PretrainConfig,
    RunConfig,
)
from m3pc_ray.environments import make_environment, specification
from m3pc_ray.online.replay.fragments import EpisodeKey, Fragment
from m3pc_ray.training.pretraining import Pretraining
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.episodes import DatasetMetadata, EpisodeEnd, Trajectories
from m3pc_ray.trajectories.store import write_store

ENVIRONMENT = "InvertedPendulum-v4"
"""Terminates after a few random steps; its actions lie in [-3, 3], so that scaling matters."""
TIME_LIMIT = 30


def random_episodes(episodes: int = 20, seed: int = 0) -> Trajectories:
    """Episodes of a random policy."""
    environment = make_environment(ENVIRONMENT, time_limit=TIME_LIMIT)
    spec = specification(environment)
    rng = np.random.default_rng(seed)
    observations, actions, rewards, lengths, ends, finals = [], [], [], [], [], []
    for episode in range(episodes):
        observation, _ = environment.reset(seed=seed + episode)
        terminated = truncated = False
        length = 0
        while not (terminated or truncated):
            action = rng.uniform(-0.6, 0.6, spec.action_dim).astype(np.float32)
            observations.append(observation)
            actions.append(action)
            observation, reward, terminated, truncated, _ = environment.step(action)
            rewards.append(reward)
            length += 1
        lengths.append(length)
        ends.append(EpisodeEnd.TERMINATED if terminated else EpisodeEnd.TIME_LIMIT)
        finals.append(observation)
    environment.close()
    return Trajectories(
        observations=np.asarray(observations, np.float32),
        actions=np.asarray(actions, np.float32),
        rewards=np.asarray(rewards, np.float32),
        episode_starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        episode_ends=np.asarray(ends, np.int8),
        final_observations=np.asarray(finals, np.float32),
        metadata=DatasetMetadata(
            name="random-pendulum",
            environment_id=ENVIRONMENT,
            observation_low=(-np.inf,) * spec.observation_dim,
            observation_high=(np.inf,) * spec.observation_dim,
            action_low=tuple(map(float, spec.action_low)),
            action_high=tuple(map(float, spec.action_high)),
            max_episode_steps=TIME_LIMIT,
        ),
    )


def tiny_config(dataset: str) -> RunConfig:
    """Settings small enough that a whole online run takes seconds."""
    return RunConfig(
        device="cpu",
        data=DataConfig(dataset=dataset, validation_fraction=0.1),
        model=ModelConfig(segment_length=4, width=16, heads=2, encoder_layers=1),
        pretrain=PretrainConfig(steps=3, batch_size=8, warmup_steps=1, precision="float32", threads=1),
        critic=CriticConfig(updates=20, batch_size=8, hidden_width=16),
        planner=PlannerConfig(num_candidates=4, context_length=2, horizon=2, precision="float32"),
        evaluation=EvaluationConfig(parallel_environments=2),
        online=OnlineConfig(
            steps=203,
            rollout_workers=2,
            environments_per_worker=3,
            btm_updates_per_step=0.1,
            critic_updates_per_step=1.0,
            start_steps=40,
            rate_tolerance_steps=48,
            btm_batch_size=8,
            num_candidates=4,
            fragment_steps=4,
            publish_every=3,
            evaluate_every=100,
            evaluation_episodes=2,
            balanced_after=80,
            threads=1,
        ),
        logging=LoggingConfig(tensorboard=False),
    )


def make_pretrained_run(folder: Path) -> RunFolder:
    """A run that `m3pc finetune` accepts, trained for a few steps by the real pretraining."""
    trajectories = random_episodes()
    write_store(trajectories, folder / "dataset")
    config = tiny_config(str(folder / "dataset"))
    run = RunFolder.create(folder / "pretrained", config, "pretrain")
    Pretraining(run, config, trajectories).train()
    return run


def make_fragment(
    episode: int,
    offset: int,
    steps: int,
    end: EpisodeEnd | None = None,
    *,
    worker: int = 0,
    observation_dim: int = 3,
    action_dim: int = 2,
    low: float = -1.0,
    high: float = 1.0,
) -> Fragment:
    """A fragment whose numbers are different in every step of every episode, and the same at every call."""
    rng = np.random.default_rng([worker, episode, offset])
    observations = rng.normal(size=(steps + 1, observation_dim)).astype(np.float32)
    observations[0] = np.random.default_rng([worker, episode, offset, 1]).normal(size=observation_dim)
    final = np.random.default_rng([worker, episode, offset + steps, 1]).normal(size=observation_dim)
    return Fragment(
        key=EpisodeKey(worker, 0, episode),
        offset=offset,
        observations=observations[:steps],
        actions=rng.uniform(low, high, size=(steps, action_dim)).astype(np.float32),
        rewards=rng.normal(size=steps).astype(np.float32),
        final_observation=final.astype(np.float32),
        end=end,
        reset_seed=11 * episode,
        weight_versions=(offset, offset + steps),
        planner='{"guide": "critic"}',
    )
