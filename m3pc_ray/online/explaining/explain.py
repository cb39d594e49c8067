"""Computes a recorded decision again: same weights, same context and randomness, same arithmetic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from m3pc_ray.config import PlannerConfig, Precision
from m3pc_ray.environments.actions import to_environment_range
from m3pc_ray.errors import UserError
from m3pc_ray.online.explaining.decision_log import LoggedDecision, episode_name, recorded_versions
from m3pc_ray.online.served_weights import KeptWeights, kept_weights
from m3pc_ray.planning.plan import PlanDetails
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.training.assemble import Models
from m3pc_ray.training.run_folder import RunFolder

TOLERANCE = 1e-5
"""Largest difference of utilities that counts as equal, in units of the largest of them where that is above 1."""


@dataclass(frozen=True)
class WeightsUsed:
    """Whose weights a decision was computed again with."""

    checkpoint: int
    kind: str
    """`training` or `served`, see `KeptWeights`."""
    version: int
    exact: bool
    """Whether they are, bit for bit, the weights that decided."""


@dataclass(frozen=True)
class Explanation:
    """A decision as recorded and as computed again; N candidates, none with guide `none`. Actions are in the
    environment's bounds."""

    decision: LoggedDecision
    weights: WeightsUsed
    settings: PlannerConfig
    device: str
    recorded: NDArray[np.float32]  # (N,), utilities
    computed: NDArray[np.float32]  # (N,)
    chosen: int  # -1 with guide `none`
    chosen_recorded: int
    action: NDArray[np.float32]  # (action_dim,), computed
    candidates: NDArray[np.float32]  # (N, H, action_dim)
    details: PlanDetails | None  # of a batch of one; its candidates in (-1, 1); None with guide `none`
    states_std: NDArray[np.float32]  # (observation_dim,), of the data

    @property
    def largest_difference(self) -> float:
        """Of the utilities."""
        return float(np.abs(self.computed - self.recorded).max()) if len(self.recorded) else 0.0

    @property
    def action_difference(self) -> float:
        """Largest difference between the action executed and the one computed."""
        return float(np.abs(self.action - self.decision.action).max())

    @property
    def same_choice(self) -> bool:
        """Whether the same candidate was drawn; with guide `none`, whether the same action came out."""
        if len(self.recorded):
            return self.chosen == self.chosen_recorded
        return self.action_difference <= TOLERANCE * max(1.0, float(np.abs(self.action).max()))

    @property
    def agrees(self) -> bool:
        """The same choice, and utilities and action equal to `TOLERANCE`."""
        scale = max(1.0, float(np.abs(self.recorded).max(initial=0.0)))
        same_action = self.action_difference <= TOLERANCE * max(1.0, float(np.abs(self.action).max()))
        return self.same_choice and same_action and self.largest_difference <= TOLERANCE * scale


def explain(run: RunFolder, decision: LoggedDecision, weights: KeptWeights, device: str | None = None) -> Explanation:
    """Compute a decision again with given weights, by default on the device it was computed on.

    Raises:
        UserError: the device is not there, or the log's planner settings are not of this version.
    """
    record = decision.record
    where = str(record.device[0]) if device is None else device
    settings = _settings(decision)
    try:
        models = weights.models(replace(run.config(), device=where))
    except UserError as error:
        raise UserError(f"{error}; --device cpu computes the decision there, not to the last bit") from None
    details, utilities, chosen, action = _compute(models, settings, decision)
    bounds = models.action_low, models.action_high
    candidates = np.zeros((0, 0, len(action)), dtype=np.float32) if details is None else details.candidates[0]
    return Explanation(
        decision=decision,
        weights=WeightsUsed(weights.step, weights.kind, weights.version, _is_exact(decision, weights)),
        settings=settings,
        device=where,
        recorded=record.utilities[0],
        computed=utilities,
        chosen=chosen,
        chosen_recorded=int(record.chosen[0]),
        action=to_environment_range(action[None], *bounds)[0],
        candidates=to_environment_range(candidates.reshape(-1, len(action)), *bounds).reshape(candidates.shape),
        details=details,
        states_std=np.asarray(models.statistics.states_std, dtype=np.float32),
    )


def choose_weights(
    run: RunFolder, decision: LoggedDecision, checkpoint: int | None = None, nearest: bool = False
) -> KeptWeights:
    """The weights to explain a decision with: those that made it, wherever a checkpoint keeps them.

    Args:
        checkpoint: look in this one alone, and take what it had in training if it keeps no such weights.
        nearest: without the same weights anywhere take the nearest version's.

    Raises:
        UserError: no checkpoint keeps these weights (the message names decisions that can be explained).
    """
    version = int(decision.record.weight_version[0])
    best: KeptWeights | None = None
    for weights in kept_weights(run, checkpoint):
        if _is_exact(decision, weights):
            return weights
        in_training = checkpoint is None or weights.kind == "training"
        if in_training and (best is None or abs(weights.version - version) < abs(best.version - version)):
            best = weights
    if best is None or (checkpoint is None and not nearest):
        raise UserError(
            f"{episode_name(decision.key)} step {decision.step} was decided by weights of version {version}, which no "
            f"checkpoint of {run.path} keeps; {_alternatives(run)}"
        )
    return best


@dataclass(frozen=True)
class Explainable:
    """Decisions of a run that one set of kept weights made."""

    version: int
    checkpoint: int
    kind: str
    decisions: int
    first: str
    """The first of them, as options of `m3pc explain`."""


def explainable(run: RunFolder) -> list[Explainable]:
    """What can be computed again with the same weights, by version."""
    recorded = {version.fingerprint: version for version in recorded_versions(run)}
    found: dict[int, Explainable] = {}
    for weights in kept_weights(run):
        made = recorded.get(weights.fingerprint)
        if made is not None:
            found[made.fingerprint] = Explainable(made.version, weights.step, weights.kind, made.decisions, made.first)
    return sorted(found.values(), key=lambda entry: entry.version)


def _alternatives(run: RunFolder) -> str:
    entries = explainable(run)
    if not entries:
        return "nor those of any other recorded decision; --nearest takes the nearest version instead"
    listing = "; ".join(f"version {entry.version}, as {entry.first}" for entry in entries)
    return f"it does keep {listing}; --nearest takes the nearest version instead"


def _is_exact(decision: LoggedDecision, weights: KeptWeights) -> bool:
    if weights.version != int(decision.record.weight_version[0]):
        return False
    return weights.fingerprint == int(decision.record.weights_fingerprint[0])


def _settings(decision: LoggedDecision) -> PlannerConfig:
    """The planner settings of the decision, with the number format that `auto` stood for."""
    try:
        settings = PlannerConfig(**json.loads(decision.planner))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"episode {episode_name(decision.key)}: its planner settings are not those of this version of m3pc_ray "
            f"({error})"
        ) from error
    return replace(settings, precision=cast(Precision, str(decision.record.precision[0])))


def _compute(
    models: Models, settings: PlannerConfig, decision: LoggedDecision
) -> tuple[PlanDetails | None, NDArray[np.float32], int, NDArray[np.float32]]:
    """Details of a batch of one, utilities (N,), index chosen, and action (action_dim,) in (-1, 1).

    Whatever else was in the batch is replaced by copies of the decision: a row's numbers depend on how many others
    there are, by rounding, but not on which.
    """
    record = decision.record
    planner = ForwardPlanner(
        models.model,
        models.critic if settings.guide == "critic" else None,
        settings,
        models.config.critic.discount,
        models.prompt,
        device=models.model.modality_embedding.device,
    )
    alone, row = record.context(), int(record.batch_row[0])
    together = alone.select(np.zeros(int(record.batch_rows[0]), dtype=np.int64))
    with _threads(int(record.threads[0])):
        plan = planner.plan(together, sample=True, record=True)
        details = planner.plan(together, sample=True, details=True).details
    assert plan.record is not None
    own = None if details is None else _row(details, row)
    return own, plan.record.utilities[row], int(plan.record.chosen[row]), plan.actions[row]


def _row(details: PlanDetails, row: int) -> PlanDetails:
    """A batch of that row alone."""
    return PlanDetails(**{field.name: getattr(details, field.name)[row : row + 1] for field in fields(details)})


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
