"""RLPD's update (Ball et al. 2023, algorithm 1) on the library's SAC: an ensemble of critics with LayerNorm.

for each of G updates:  y = r + gamma (min over Z of Q_i'(s', a') - alpha log pi(a'|s')),  Z a random subset
                        every Q_i descends (Q_i(s, a) - y)^2, every target moves by Polyak averaging
then once:              the actor ascends mean over i of Q_i(s, a~) - alpha log pi(a~|s), alpha follows the entropy
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3 import SAC
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor, nn
from torch.nn import functional


class EnsembleCritic(ContinuousCritic):
    """The library's critic with all members in batched products, and LayerNorm before every hidden ReLU.

    Args:
        layer_norm: whether there is any LayerNorm.
        n_critics: members; the others are as the library's.
    """

    def __init__(self, *args: Any, layer_norm: bool, n_critics: int, **keywords: Any) -> None:
        super().__init__(*args, **{**keywords, "n_critics": 0})
        self.n_critics = n_critics
        inputs = keywords["features_dim"] + get_action_dim(self.action_space)
        sizes = [inputs, *keywords["net_arch"], 1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.gains, self.shifts = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
            bound = fan_in**-0.5  # nn.Linear's default range
            self.weights.append(nn.Parameter(torch.empty(n_critics, fan_in, fan_out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(n_critics, 1, fan_out).uniform_(-bound, bound)))
        for width in keywords["net_arch"] if layer_norm else ():
            self.gains.append(nn.Parameter(torch.ones(n_critics, 1, width)))
            self.shifts.append(nn.Parameter(torch.zeros(n_critics, 1, width)))

    def values(self, observations: Tensor, actions: Tensor, members: Tensor | None = None) -> Tensor:
        """Q (members, B) of observations (B, observation_dim) and actions (B, action_dim) in (-1, 1).

        members: (M,) indices of those to evaluate; None: all.
        """
        features = self.extract_features(observations, self.features_extractor)
        pairs = torch.cat([features, actions], dim=1)

        def of(parameter: Tensor) -> Tensor:
            return parameter if members is None else parameter[members]

        hidden = pairs.expand(self.n_critics if members is None else len(members), *pairs.shape)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(of(bias), hidden, of(weight))
            if layer + 1 < len(self.weights):
                if len(self.gains):
                    normed = functional.layer_norm(hidden, hidden.shape[-1:])
                    hidden = torch.addcmul(of(self.shifts[layer]), normed, of(self.gains[layer]))
                hidden = torch.relu(hidden)
        return hidden.squeeze(-1)

    def forward(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        """One Q (B, 1) a member, as the library's own update wants them."""
        return tuple(value.unsqueeze(1) for value in self.values(obs, actions))


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
            members = torch.randperm(self.critic.n_critics)[: self.target_critics]
            goal = self.critic_goal(batch, members)
            values = self.critic.values(batch.observations, batch.actions)
            # A sum over members: each descends its own mean, whatever their number.
            _descend(self.critic.optimizer, (values - goal).square().mean(1).sum())
            polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
        self._update_actor(batch.observations)
        self._n_updates += gradient_steps

    @torch.no_grad()
    def critic_goal(self, batch: ReplayBufferSamples, members: Tensor) -> Tensor:
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
