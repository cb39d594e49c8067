"""Makes the roles that hold a model from the run folder, the same way in one process and on Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from m3pc_ray.errors import UserError
from m3pc_ray.online.evaluator import Evaluator
from m3pc_ray.online.learner import Learner, build_storage
from m3pc_ray.online.plan_service import PlanService
from m3pc_ray.online.served_weights import checkpoint_version
from m3pc_ray.training.assemble import Models, models_from_checkpoint
from m3pc_ray.training.checkpoints import load_checkpoint
from m3pc_ray.training.run_folder import RunFolder


def make_learner(run: RunFolder, device: str | None = None) -> Learner:
    """The learner as it stood at the newest checkpoint; it has yet to mirror the replay from fragment 0 on."""
    config = run.config() if device is None else replace(run.config(), device=device)
    tensors, state = load_checkpoint(run)
    models = models_from_checkpoint(config, tensors, state)
    return Learner(config, models, build_storage(config, models), tensors, state, evidence=run.path / "diverged")


def make_plan_service(run: RunFolder, device: str | None = None) -> PlanService:
    """The exploring planner with the weights of the newest checkpoint."""
    models, version = _models_and_version(run, device)
    return PlanService(models, version)


def make_evaluator(run: RunFolder, device: str | None = None) -> Evaluator:
    """The evaluator; it is given weights at every evaluation."""
    models, _ = _models_and_version(run, device)
    return Evaluator(models)


def catch_up(learner: Learner, read: Callable[[int], list]) -> None:
    """Mirror what the log already holds, before anything new; `read(start)` gives the next fragments.

    Raises:
        UserError: the log has fewer fragments than the checkpoint has learnt from.
    """
    while fragments := read(learner.fragments):
        learner.ingest(fragments)
    if learner.fragments < learner.fragments_at_checkpoint:
        raise UserError(
            f"the replay log has {learner.fragments} fragments, the checkpoint has learnt from "
            f"{learner.fragments_at_checkpoint}: put back a copy of the log's last file"
        )
    learner.lag = type(learner.lag)()  # of weights long gone


def _models_and_version(run: RunFolder, device: str | None) -> tuple[Models, int]:
    config = run.config() if device is None else replace(run.config(), device=device)
    tensors, state = load_checkpoint(run)
    models = models_from_checkpoint(config, tensors, state)
    return models, checkpoint_version(config, state)
