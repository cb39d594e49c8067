"""IQL updates (eq. 9 of M³PC)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from m3pc_ray.config import CriticConfig
from m3pc_ray.critic.iql import IQLCritic


class IQLTrainer:
    """Optimizers and the update of an `IQLCritic`.

    One update: V regresses the expectile of min(target Q1, target Q2) over the data's actions, both Qs regress
    r + gamma V(s') with no bootstrap after a true termination, and the targets follow by Polyak averaging.
    """

    def __init__(self, critic: IQLCritic, config: CriticConfig, dtype: torch.dtype = torch.float32) -> None:
        self.critic, self.config, self.dtype = critic, config, dtype
        learnt = [*critic.q.parameters(), *critic.v.parameters()]
        self.optimizer = torch.optim.Adam(learnt, lr=config.learning_rate, fused=True)
        self._online = list(critic.q.parameters())
        self._target = list(critic.q_target.parameters())

    def losses(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(value loss, Q loss) of a batch with observations, actions, rewards, next_observations, terminated."""
        critic, config, dtype = self.critic, self.config, self.dtype
        states = critic.standardise(batch["observations"])
        pairs = torch.cat([states, batch["actions"]], dim=-1)
        with torch.no_grad():
            target_q = critic.q_target(pairs, dtype).amin(0)
            next_value = critic.v(critic.standardise(batch["next_observations"]), dtype)[0]
            continues = 1.0 if config.bootstrap_through_terminations else 1.0 - batch["terminated"].float()
            q_goal = batch["rewards"] + config.discount * continues * next_value
        advantage = target_q - critic.v(states, dtype)[0]
        weight = torch.where(advantage > 0, config.expectile, 1.0 - config.expectile)
        value_loss = (weight * advantage.square()).mean()
        q_loss = (critic.q(pairs, dtype) - q_goal).square().mean(1).sum(0)
        return value_loss, q_loss

    def update(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One gradient step; returns detached scalars `critic/value_loss` and `critic/q_loss`."""
        value_loss, q_loss = self.losses(batch)
        self.optimizer.zero_grad(set_to_none=True)
        (value_loss + q_loss).backward()
        self.optimizer.step()
        torch._foreach_lerp_(self._target, self._online, self.config.polyak)
        return {"critic/value_loss": value_loss.detach(), "critic/q_loss": q_loss.detach()}

    def optimizers(self) -> dict[str, Any]:
        """Optimizers by the name they have in a checkpoint."""
        return {"critic_optimizer": self.optimizer}
