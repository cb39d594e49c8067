"""One cell of the study: TD3 on one variant's features with one seed, evaluated every so many updates."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from m3pc_ray.baselines.feedforward_agent import FeedforwardAgent
from m3pc_ray.config import EvaluationConfig
from m3pc_ray.environments.make import EnvironmentGroup
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.evaluate import earned, run_episodes
from m3pc_ray.representations.features import Variant, constant_features, make_features
from m3pc_ray.representations.td3 import TD3BC, TD3Config
from m3pc_ray.training.assemble import Models
from m3pc_ray.training.columns import fill_columns
from m3pc_ray.training.data import transition_arrays
from m3pc_ray.trajectories.episodes import Trajectories

LOOK_UPDATES = 20
"""Updates between two looks at progress and for Ctrl-C."""

Progress = Callable[[int], None]
"""Called with the updates done; may raise KeyboardInterrupt."""


@dataclass(frozen=True)
class StudySettings:
    """What every cell of a study has in common."""

    updates: int = 20_000
    """Critic updates of a cell."""
    every: int = 2_000
    """Updates between two evaluations; the last update is evaluated in any case."""
    episodes: int = 5
    """Of each evaluation, the same start states every time."""
    td3: TD3Config = field(default_factory=TD3Config)

    def evaluated_at(self) -> list[int]:
        """Updates after which the policy is evaluated."""
        points = list(range(self.every, self.updates + 1, self.every))
        return points if points and points[-1] == self.updates else [*points, self.updates]


def train_cell(
    models: Models,
    trajectories: Trajectories,
    variant: Variant,
    seed: int,
    settings: StudySettings,
    dtype: torch.dtype,
    progress: Progress | None = None,
) -> Iterator[dict[str, Any]]:
    """Trains and yields a row an evaluation.

    Rows hold variant, seed, updates, seconds (of training since the start, evaluations excluded), encoding_seconds (of
    the features computed beforehand), return_*, score_*, returns and scores as in `m3pc evaluate`, critic_loss,
    q_mean and cloning_error of the last updates, environment, dataset and settings. The same arguments give the same
    rows but for the seconds.

    Args:
        models: of the run; not changed.
        trajectories: what to learn from.
        variant: what the networks read.
        seed: of the networks' first weights, the batches and the targets' noise.
        settings: of the study.
        dtype: of the encoder's products and of those between hidden layers.
        progress: told how far training is.

    Raises:
        UserError: training diverged to values that are not finite.
    """
    device = models.model.modality_embedding.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the untrained encoder
        features = make_features(variant, models.model, dtype).to(device)
    started = time.perf_counter()
    arrays, keep = transition_arrays(trajectories, models.action_low, models.action_high)
    statistics = models.statistics
    for name in ("observations", "next_observations"):
        arrays[name] = (arrays[name] - statistics.states_mean) / statistics.states_std
    arrays = {name: np.asarray(values[keep], dtype=np.float32) for name, values in arrays.items()}
    if features.encoder is not None and features.constant:
        seen = (
            torch.as_tensor(arrays[name], device=device) for name in ("observations", "actions", "next_observations")
        )
        arrays |= {name: values.cpu().numpy() for name, values in constant_features(features, *seen).items()}
    columns = fill_columns(arrays, device)
    encoding_seconds = time.perf_counter() - started
    learner = TD3BC(features, models.model.action_dim, settings.td3, seed, dtype, device)
    agent = make_agent(models, learner)
    evaluation = dataclasses.replace(models.config.evaluation, episodes=settings.episodes, deterministic=True)
    rng = np.random.default_rng([seed, 11])
    seconds = 0.0
    metrics: dict[str, torch.Tensor] = {}
    with EnvironmentGroup(models.environment_id, settings.episodes, time_limit=models.time_limit) as group:
        for upto in settings.evaluated_at():
            while learner.updates < upto:
                started = time.perf_counter()
                for _ in range(min(LOOK_UPDATES, upto - learner.updates)):
                    at = torch.as_tensor(rng.integers(len(columns), size=settings.td3.batch_size), device=device)
                    metrics |= learner.update(columns.take(at))
                seconds += time.perf_counter() - started
                if progress is not None:
                    progress(learner.updates)
            numbers = {name: float(value) for name, value in metrics.items()}
            if not all(np.isfinite(value) for value in numbers.values()):
                raise UserError(
                    f"{variant}, seed {seed}: training diverged before update {upto}: a loss is not finite; lower "
                    "--alpha, and without behaviour cloning (--no-bc) expect it"
                )
            yield {
                "variant": variant,
                "seed": seed,
                "updates": upto,
                "seconds": seconds,
                "encoding_seconds": encoding_seconds,
                **_evaluate(agent, group, evaluation, progress, upto),
                **{name: numbers[name] for name in ("critic_loss", "q_mean", "cloning_error") if name in numbers},
                "behaviour_cloning": settings.td3.behaviour_cloning,
                "alpha": settings.td3.alpha,
                "environment": models.environment_id,
                "dataset": models.metadata.name,
            }


def make_agent(models: Models, learner: TD3BC) -> FeedforwardAgent:
    """The learner's policy as something that plays episodes."""
    model = models.model

    def policy(observations: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        seen = torch.as_tensor(observations, device=model.modality_embedding.device)
        actions: npt.NDArray[np.float32] = learner.act(model.normalise("states", seen)).cpu().numpy()
        return actions

    return FeedforwardAgent(policy, models.metadata, models.time_limit)


def _evaluate(
    agent: FeedforwardAgent,
    group: EnvironmentGroup,
    evaluation: EvaluationConfig,
    progress: Progress | None,
    updates: int,
) -> dict[str, Any]:
    def look(_finished: int, _steps: int, _mean: float) -> None:
        if progress is not None:
            progress(updates)

    return earned(run_episodes(agent, group, evaluation, look).returns, agent.metadata)
