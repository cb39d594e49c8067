"""The planner role: a forward planner set up for exploring, and the version of its weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.online.exploration import exploring_planner
from m3pc_ray.online.learner import Weights
from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.training.assemble import Models


class PlanService:
    """Answers planning requests of any worker; keeps nothing but weights."""

    def __init__(self, models: Models, version: int = 0) -> None:
        config = exploring_planner(models.config)
        self.version = version
        self.planner = ForwardPlanner(
            models.model,
            models.critic if config.guide == "critic" else None,
            config,
            models.config.critic.discount,
            models.prompt,
            device=str(models.model.modality_embedding.device),
        )

    def plan(self, context: PlanningContext) -> tuple[NDArray[np.float32], int]:
        """Sampled actions (B, action_dim) in (-1, 1), and the version of the weights that chose them."""
        return self.planner.plan(context, sample=True).actions, self.version

    def set_weights(self, weights: Weights) -> None:
        """Use published weights from the next request on."""
        self.planner.load_weights(weights.model, weights.critic)
        self.version = weights.version


def join_contexts(contexts: list[PlanningContext]) -> PlanningContext:
    """The requests of several workers as one."""
    if len(contexts) == 1:
        return contexts[0]
    return PlanningContext(
        observations=np.concatenate([context.observations for context in contexts]),
        actions=np.concatenate([context.actions for context in contexts]),
        timesteps=np.concatenate([context.timesteps for context in contexts]),
        keys=np.concatenate([context.keys for context in contexts]),
    )
