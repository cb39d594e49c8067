"""A planner of another kind, for scale: sampling in the latent space of perceptrons, of TD-MPC2's published size.

Hansen et al. 2024, "TD-MPC2: Scalable, Robust World Models for Continuous Control": the 5M-parameter model (latent 512,
hidden width 512, five Q networks of 101 bins), horizon 3, 6 iterations of 512 samples of which 24 come from the policy,
64 elites. Random weights: only its time is of interest. Written from the paper's Algorithm and its table of settings.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LATENT, HIDDEN, BINS, NUM_Q = 512, 512, 101, 5
HORIZON, ITERATIONS, SAMPLES, POLICY_SAMPLES, ELITES = 3, 6, 512, 24, 64
SIMPLEX_GROUP = 8
TEMPERATURE, MIN_STD, MAX_STD, DISCOUNT = 0.5, 0.05, 2.0, 0.99


class _SimplexNorm(nn.Module):
    """Softmax over groups of eight latent units."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x.unflatten(-1, (-1, SIMPLEX_GROUP)), dim=-1).flatten(-2)


def _perceptron(inputs: int, outputs: int, last: nn.Module | None = None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in in (inputs, HIDDEN):
        layers += [nn.Linear(fan_in, HIDDEN), nn.LayerNorm(HIDDEN), nn.Mish()]
    layers.append(nn.Linear(HIDDEN, outputs))
    if last is not None:
        layers += [nn.LayerNorm(outputs), last]
    return nn.Sequential(*layers)


class LatentPlanner:
    """Plans one action for one environment."""

    def __init__(self, observation_dim: int, action_dim: int, device: str = "cpu") -> None:
        torch.manual_seed(0)
        self.action_dim, self.device = action_dim, device
        encoder: list[nn.Module] = [nn.Linear(observation_dim, 256), nn.LayerNorm(256), nn.Mish()]
        encoder += [nn.Linear(256, LATENT), nn.LayerNorm(LATENT), _SimplexNorm()]
        self.encoder = nn.Sequential(*encoder).to(device)
        self.dynamics = _perceptron(LATENT + action_dim, LATENT, _SimplexNorm()).to(device)
        self.reward = _perceptron(LATENT + action_dim, BINS).to(device)
        self.policy = _perceptron(LATENT, 2 * action_dim).to(device)
        self.q = [_perceptron(LATENT + action_dim, BINS).to(device) for _ in range(NUM_Q)]
        self.bins = torch.linspace(-10.0, 10.0, BINS, device=device)

    @torch.inference_mode()
    def plan(self, observation: Tensor) -> Tensor:
        """An action (action_dim,) for an observation (observation_dim,)."""
        latent = self.encoder(observation.unsqueeze(0))
        proposed = self._policy_actions(latent.expand(POLICY_SAMPLES, -1))
        start = latent.expand(SAMPLES, -1)
        mean = torch.zeros(HORIZON, self.action_dim, device=self.device)
        std = torch.full_like(mean, MAX_STD)
        for _ in range(ITERATIONS):
            noise = torch.randn(HORIZON, SAMPLES - POLICY_SAMPLES, self.action_dim, device=self.device)
            drawn = (mean.unsqueeze(1) + std.unsqueeze(1) * noise).clamp(-1.0, 1.0)
            actions = torch.cat([proposed, drawn], dim=1)  # (H, samples, action_dim)
            values, elites = self._value(start, actions).topk(ELITES)
            weights = torch.softmax(TEMPERATURE * (values - values.max()), dim=0)[None, :, None]
            chosen = actions[:, elites]
            mean = (weights * chosen).sum(1)
            std = (weights * (chosen - mean.unsqueeze(1)).square()).sum(1).sqrt().clamp(MIN_STD, MAX_STD)
        return mean[0]

    def _policy_actions(self, latent: Tensor) -> Tensor:
        actions = []
        for _ in range(HORIZON):
            action = self._act(latent)
            actions.append(action)
            latent = self.dynamics(torch.cat([latent, action], dim=-1))
        return torch.stack(actions)

    def _act(self, latent: Tensor) -> Tensor:
        mean, log_std = self.policy(latent).chunk(2, dim=-1)
        return torch.tanh(mean + log_std.clamp(-10.0, 2.0).exp() * torch.randn_like(mean))

    def _value(self, latent: Tensor, actions: Tensor) -> Tensor:
        """Discounted rewards and the mean of two of the five Qs at the end, (samples,)."""
        total = torch.zeros(len(latent), device=self.device)
        for step, action in enumerate(actions):
            pair = torch.cat([latent, action], dim=-1)
            total = total + DISCOUNT**step * self._scalar(self.reward(pair))
            latent = self.dynamics(pair)
        pair = torch.cat([latent, self._act(latent)], dim=-1)
        values = torch.stack([self._scalar(q(pair)) for q in self.q])
        picked = torch.randperm(NUM_Q, device=self.device)[:2]
        return total + DISCOUNT**HORIZON * values[picked].mean(0)

    def _scalar(self, logits: Tensor) -> Tensor:
        """Expected value of the two-hot encoding over symlog bins."""
        value = (torch.softmax(logits, dim=-1) * self.bins).sum(-1)
        return torch.sign(value) * torch.expm1(value.abs())
