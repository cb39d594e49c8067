"""What candidates lead to and what that is worth, before eq. 3 makes one number of it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from m3pc_ray.config import PlannerConfig
from m3pc_ray.critic.dynamics import DynamicsNetwork
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.planning.inference import Window
from m3pc_ray.planning.population import taken
from m3pc_ray.planning.scoring import Scorer, scored


@dataclass(frozen=True)
class Imagined:
    """Of N candidates in B environments, planned h steps ahead from step t."""

    states: Tensor  # (B, N, steps decoded, observation_dim), normalised, from t + 1 on
    rewards: Tensor  # (B, N, h or h - 1), raw
    terminal_values: Tensor  # (B, N, h)

    def take(self, rows: Tensor) -> Imagined:
        """Of every environment the candidates (B, M) alone."""
        return Imagined(taken(self.states, rows), taken(self.rewards, rows), taken(self.terminal_values, rows))

    def joined(self, other: Imagined) -> Imagined:
        """These candidates, then the other's."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return Imagined(*(torch.cat(pair, dim=1) for pair in pairs))


def rolled_out(
    dynamics: DynamicsNetwork,
    scorer: Scorer,
    config: PlannerConfig,
    units: TrajectoryModel,
    window: Window,
    candidates: Tensor,
    horizon: int,
    details: bool,
) -> Imagined:
    """By the critic's own dynamics in place of the forward-dynamics mask, values by its Qs.

    Args:
        units: normalises and denormalises states.
        candidates: (B, N, H, action_dim), actions from step t on.
        horizon: h, steps that are scored.
        details: also the states up to H - 1 steps ahead and the reward of step h, which eq. 3 does not read.
    """
    steps = max(horizon, candidates.shape[2] - 1) if details else horizon - 1
    current = units.denormalise("states", window.states[:, -1])
    states, rewards = dynamics.roll_out(current, candidates, steps)
    start = current[:, None, None].expand(-1, candidates.shape[1], -1, -1)
    visited = torch.cat([start, states[:, :, : horizon - 1]], dim=2)  # s_t..s_{t+h-1}
    values = scored(scorer, config, visited, candidates[:, :, :horizon].contiguous())
    shown = candidates.shape[2] - 1 if details else horizon - 1
    return Imagined(
        units.normalise("states", states[:, :, :shown]), rewards[:, :, : horizon if details else horizon - 1], values
    )
