"""The evaluator role: scores one pinned version of the weights in environments of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from m3pc_ray.agent import Agent
from m3pc_ray.config import Guide
from m3pc_ray.evaluation.evaluate import evaluate_planners
from m3pc_ray.online.learner import Weights
from m3pc_ray.training.assemble import Models


class Evaluating(Protocol):
    """What an online run asks of whoever scores its weights."""

    def evaluate(
        self, weights: Weights, environment_steps: int, check: Callable[[], None] = lambda: None
    ) -> list[dict[str, Any]]:
        """As `Evaluator.evaluate`; no rows where nothing is to be scored at this step."""


class Evaluator:
    """Plays the same episodes at every evaluation, with the single mask (`none`) and with the run's planner."""

    def __init__(self, models: Models) -> None:
        config = models.config
        # Pretrained without a critic: what cannot guide cannot be scored.
        guide: Guide = config.planner.guide if models.critic_updates > 0 else config.online.guide
        self.agent = Agent.from_models(models, config=replace(config.planner, guide=guide))
        self.config = replace(config.evaluation, episodes=config.online.evaluation_episodes)
        guides: tuple[Guide, ...] = ("none", guide)
        self.planners = list(dict.fromkeys(guides))

    def evaluate(
        self, weights: Weights, environment_steps: int, check: Callable[[], None] = lambda: None
    ) -> list[dict[str, Any]]:
        """Rows of `evaluate_planners`, with the environment steps and the weight version they belong to.

        `check` is called after every step and may raise to break off.
        """
        self.agent.planner.load_weights(weights.model, weights.critic)
        rows = evaluate_planners(self.agent, self.planners, self.config, progress=lambda _: lambda *_: check())
        return [{**row, "environment_steps": environment_steps, "weight_version": weights.version} for row in rows]
