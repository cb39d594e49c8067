"""How wide fixed noise must be to be as random as a model: the same mean entropy on states of the data."""

from __future__ import annotations

from dataclasses import replace

import torch

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import with_settings
from m3pc_ray.errors import UserError
from m3pc_ray.model.distribution import SquashedGaussian
from m3pc_ray.planning.planner import ForwardPlanner
from m3pc_ray.training.assemble import Models
from m3pc_ray.training.btm_trainer import entropy_target
from m3pc_ray.training.utility_units import BEST_SHARE, best_share, data_context
from m3pc_ray.trajectories.episodes import Trajectories

DECISIONS = 512
"""States the entropy is averaged over."""
LOG_STDS = torch.linspace(-10.0, 1.0, 111, dtype=torch.float64)
"""Where the standard deviation is looked for; beyond e the squashed noise piles up at the bounds."""


def missing(config: RunConfig) -> bool:
    """Whether fixed noise is used whose standard deviation is not known yet."""
    used = "fixed" in (config.planner.action_noise, config.online.action_noise)
    return used and config.planner.noise_std is None


def with_measured(models: Models, trajectories: Trajectories) -> RunConfig:
    """The models' configuration with `planner.noise_std` measured.

    The entropy to meet is the models' own, asked for the best return as exploring does, over states of the best
    episodes; a model trained with squared error has none, and the target of its entropy constraint takes its place.
    Which states does not depend on `seed`: all runs made from one model have the same noise.

    Args:
        models: trained.
        trajectories: the data.

    Raises:
        UserError: no fixed noise has that entropy.
    """
    config = models.config
    settings = replace(config.planner, guide="none", action_noise="model", return_prompt="best", engine="plain")
    device = models.model.modality_embedding.device
    planner = ForwardPlanner(models.model, None, settings, config.critic.discount, models.prompt, device)
    episodes = best_share(trajectories.with_actions(settings.context_length), BEST_SHARE)
    proposal = planner.proposal(data_context(models, episodes, settings.context_length, 0, DECISIONS))
    deterministic = config.pretrain.action_loss == "squared_error"
    entropy = (
        entropy_target(config.pretrain, models.model.action_dim) if deterministic else float(proposal.entropy().mean())
    )
    return with_settings(config, {"planner.noise_std": std_of_entropy(proposal, entropy)})


def std_of_entropy(proposal: SquashedGaussian, entropy: float) -> float:
    """The least standard deviation that, around the means of `proposal`, has the mean entropy `entropy` (nats).

    Raises:
        UserError: none within `LOG_STDS` has.
    """
    proposal = proposal.map(lambda values: values.double())

    def entropy_of(log_std: float) -> float:
        return float(SquashedGaussian(proposal.mean, torch.full_like(proposal.mean, log_std)).entropy().mean())

    steps = LOG_STDS.tolist()
    found = [entropy_of(step) for step in steps]
    above = next((index for index, value in enumerate(found) if value >= entropy), 0)
    if above == 0:
        raise UserError(
            f"planner.noise_std: no fixed noise around this model's actions has an entropy of {entropy:.2f} nats, only "
            f"of {found[0]:.2f} to {max(found):.2f}; give planner.noise_std a number"
        )
    low, high = steps[above - 1], steps[above]
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if entropy_of(middle) >= entropy else (middle, high)
    return float(torch.tensor(high).exp())
