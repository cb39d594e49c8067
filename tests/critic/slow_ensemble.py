"""IQL with an ensemble as the papers' pseudocode reads: one network, one transition at a time, sharing only weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from m3pc_ray.config import CriticConfig
from m3pc_ray.critic.iql import IQLCritic, ParallelMLP


def slow_output(network: ParallelMLP, member: int, x: Tensor) -> Tensor:
    """One member's answer to one input (in,): linear, LayerNorm where there is one, ReLU, twice; then linear."""
    for layer in range(2):
        x = functional.linear(x, network.weights[layer][member].T, network.biases[layer][member, 0])
        if len(network.norm_scales):
            deviation = x - x.mean()
            variance = deviation.square().mean()
            scale, shift = network.norm_scales[layer][member, 0], network.norm_shifts[layer][member, 0]
            x = scale * deviation / torch.sqrt(variance + 1e-5) + shift
        x = torch.clamp(x, min=0.0)
    return functional.linear(x, network.weights[2][member].T, network.biases[2][member, 0])[0]


def slow_losses(
    critic: IQLCritic, config: CriticConfig, batch: Mapping[str, Tensor], targets: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """(value loss, Q loss) with the minimum over the target Qs that `targets` names."""
    value_losses, q_losses = [], []
    for row in range(len(batch["rewards"])):
        state = (batch["observations"][row] - critic.states_mean) / critic.states_std
        following = (batch["next_observations"][row] - critic.states_mean) / critic.states_std
        pair = torch.cat([state, batch["actions"][row]])
        with torch.no_grad():
            target = min(float(slow_output(critic.q_target, member, pair)) for member in targets)
            next_value = critic.value_mean + critic.value_std * slow_output(critic.v, 0, following)
            goal = batch["rewards"][row] + config.discount * (1.0 - batch["terminated"][row]) * next_value
            goal = (goal - critic.value_mean) / critic.value_std
        advantage = target - slow_output(critic.v, 0, state)
        weight = config.expectile if advantage > 0 else 1.0 - config.expectile
        value_losses.append(weight * advantage**2)
        for member in range(config.ensemble_size):
            q_losses.append((slow_output(critic.q, member, pair) - goal) ** 2)
    rows = len(batch["rewards"])
    return torch.stack(value_losses).mean(), torch.stack(q_losses).sum() / rows
