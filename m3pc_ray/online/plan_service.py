"""The planner role: a forward planner set up for exploring, and the version of its weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from m3pc_ray.online.exploration import exploring_planner
from m3pc_ray.online.learner import Weights
from m3pc_ray.online.replay.decisions import Computation, DecisionRecords
from m3pc_ray.online.served_weights import fingerprint
from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.training.assemble import Models


@dataclass(frozen=True)
class PlanAnswer:
    """What a planning request is answered with.

    Args:
        actions: (B, action_dim) in (-1, 1), sampled.
        version: of the weights that chose them.
        records: what the decisions depended on, where `online.record_decisions` asks for it.
        rest: what the plans have left, where `planner.warm_start` asks for it; see `Plan`.
    """

    actions: NDArray[np.float32]
    version: int
    records: DecisionRecords | None = None
    rest: NDArray[np.float32] | None = None

    def rows(self, first: int, last: int) -> PlanAnswer:
        """The answer for environments `first` to `last` - 1 of a joined request."""
        records = None if self.records is None else self.records.rows(first, last)
        rest = None if self.rest is None else self.rest[first:last]
        return PlanAnswer(self.actions[first:last], self.version, records, rest)


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
        self._records_decisions = models.config.online.record_decisions
        if self._records_decisions:
            self._fingerprint = fingerprint(models.model.state_dict(), models.critic.state_dict())

    def plan(self, context: PlanningContext) -> PlanAnswer:
        """An action for every environment of the context."""
        plan = self.planner.plan(context, sample=True, record=self._records_decisions)
        records = None
        if plan.record is not None:
            records = DecisionRecords.of(context, plan.record, self._computation())
        return PlanAnswer(plan.actions, self.version, records, plan.rest)

    def set_weights(self, weights: Weights) -> None:
        """Use published weights from the next request on."""
        self.planner.load_weights(weights.model, weights.critic)
        self.version = weights.version
        if self._records_decisions:
            self._fingerprint = fingerprint(weights.model, weights.critic)

    def _computation(self) -> Computation:
        return Computation(
            weight_version=self.version,
            weights_fingerprint=self._fingerprint,
            precision=str(self.planner.dtype).removeprefix("torch."),
            device=str(self.planner.device),
            threads=torch.get_num_threads(),
        )
