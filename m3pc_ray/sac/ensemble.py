"""RLPD's update (Ball et al. 2023, algorithm 1) on the library's SAC: an ensemble of critics with LayerNorm.

for each of G updates:  y = r + gamma (min over Z of Q_i'(s', a') - alpha log pi(a'|s')),  Z a random subset
                        every Q_i descends (Q_i(s, a) - y)^2, every target moves by Polyak averaging
then once:              the actor ascends mean over i of Q_i(s, a~) - alpha log pi(a~|s), alpha follows the entropy
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from stable_baselines3 import SAC
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor, nn


class EnsembleCritic(ContinuousCritic):
    """The library's critic with LayerNorm between every hidden product and its ReLU.

    One network after another: on a CPU that is faster than batched products, whose weights leave the cache.

    Args:
        layer_norm: whether there is any LayerNorm; the others are the library's.
    """

    def __init__(self, *args: Any, layer_norm: bool, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        if not layer_norm:
            return
        inputs = keywords["features_dim"] + get_action_dim(self.action_space)
        self.q_networks = []
        for member in range(self.n_critics):
            layers = create_mlp(inputs, 1, keywords["net_arch"], nn.ReLU, post_linear_modules=[nn.LayerNorm])
            setattr(self, f"qf{member}", nn.Sequential(*layers))  # in the place of the library's own
            self.q_networks.append(getattr(self, f"qf{member}"))

    def values(self, observations: Tensor, actions: Tensor, members: Sequence[int] | None = None) -> Tensor:
        """Q (members, B) of observations (B, observation_dim) and actions (B, action_dim) in (-1, 1).

        members: indices of those to evaluate; None: all.
        """
        features = self.extract_features(observations, self.features_extractor)
        pairs = torch.cat([features, actions], dim=1)
        chosen = range(self.n_critics) if members is None else members
        return torch.stack([self.q_networks[member](pairs).squeeze(1) for member in chosen])


class EnsemblePolicy(SACPolicy):
    """The library's actor and critics of `EnsembleCritic`; `layer_norm` as there."""

    def __init__(self, *args: Any, layer_norm: bool = True, **keywords: Any) -> None:
        self._layer_norm = layer_norm  # before the networks are built in the library's constructor
        super().__init__(*args, **keywords)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> EnsembleCritic:
        keywords = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return EnsembleCritic(layer_norm=self._layer_norm, **keywords).to(self.device)


class EnsembleSAC(SAC):
    """The library's SAC with RLPD's update; its policy must be an `EnsemblePolicy`.

    Args:
        target_critics: members of the random subset whose minimum a target takes.
        entropy_backup: whether a target counts the entropy of the next action.
    """

    critic: EnsembleCritic
    critic_target: EnsembleCritic

    def __init__(self, *args: Any, target_critics: int, entropy_backup: bool = True, **keywords: Any) -> None:
        self.target_critics, self.entropy_backup = target_critics, entropy_backup
        super().__init__(*args, **keywords)

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """`gradient_steps` updates of the critics, then one of the actor and the entropy weight on the last batch."""
        assert self.replay_buffer is not None
        self.policy.set_training_mode(True)
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size)
            members = torch.randperm(self.critic.n_critics)[: self.target_critics].tolist()
            goal = self.critic_goal(batch, members)
            values = self.critic.values(batch.observations, batch.actions)
            # A sum over members: each descends its own mean, whatever their number.
            _descend(self.critic.optimizer, (values - goal).square().mean(1).sum())
            polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
        self._update_actor(batch.observations)
        self._n_updates += gradient_steps

    @torch.no_grad()
    def critic_goal(self, batch: ReplayBufferSamples, members: Sequence[int]) -> Tensor:
        """What all Qs regress, (B,): rewards and the smallest of the `members`' targets; no future after a true end."""
        actions, log_probability = self.actor.action_log_prob(batch.next_observations)
        future = self.critic_target.values(batch.next_observations, actions, members).amin(0)
        if self.entropy_backup:
            future = future - self.entropy_weight() * log_probability
        return batch.rewards[:, 0] + (1.0 - batch.dones[:, 0]) * self.gamma * future

    def entropy_weight(self) -> Tensor:
        """alpha, (1,), outside the graph."""
        assert self.log_ent_coef is not None
        return self.log_ent_coef.detach().exp()

    def _update_actor(self, observations: Tensor) -> None:
        assert self.log_ent_coef is not None
        assert self.ent_coef_optimizer is not None
        actions, log_probability = self.actor.action_log_prob(observations)
        self.critic.requires_grad_(False)  # the critics are only looked at
        values = self.critic.values(observations, actions).mean(0)
        self.critic.requires_grad_(True)
        _descend(self.actor.optimizer, (self.entropy_weight() * log_probability - values).mean())
        excess = (log_probability + float(self.target_entropy)).detach()
        _descend(self.ent_coef_optimizer, -(self.log_ent_coef * excess).mean())


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
