"""Algorithm 1 of the paper, one environment, one candidate, one step at a time: what every planner is held against.

Shares no planning code with the product, only the network's forward pass, the critic and the noise.
"""

from __future__ import annotations

import numpy as np
import torch

from m3pc_ray.config import PlannerConfig
from m3pc_ray.critic.iql import IQLCritic
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.planning.prompts import ReturnPrompt


def slow_utility(rewards: list[float], terminal_values: list[float], discount: float, td_lambda: float) -> float:
    """Eq. 3 as method.md writes it."""
    horizon = len(terminal_values)
    n_step_returns = []
    for n in range(horizon):
        total = 0.0
        for k in range(n):
            total += discount**k * rewards[k]
        n_step_returns.append(total + discount**n * terminal_values[n])
    result = 0.0
    for n in range(horizon - 1):
        result += (1 - td_lambda) * td_lambda**n * n_step_returns[n]
    return result + td_lambda ** (horizon - 1) * n_step_returns[horizon - 1]


def slow_plan(
    model: TrajectoryModel,
    critic: IQLCritic,
    config: PlannerConfig,
    discount: float,
    prompt: ReturnPrompt,
    context: PlanningContext,
    noise: list[np.ndarray],
    guide: str,
) -> dict[str, list[np.ndarray]]:
    """`noise[b]`: (N, T - t, action_dim). Lists with one entry for each environment."""
    model = model.eval()
    length, obs_dim, action_dim = model.config.segment_length, model.observation_dim, model.action_dim
    state_mean, state_std = model.states_mean, model.states_std
    out: dict[str, list[np.ndarray]] = {"candidates": [], "states": [], "rewards": [], "utilities": [], "actions": []}
    for b in range(len(context.timesteps)):
        timestep = int(context.timesteps[b])
        t = min(timestep, config.context_length)
        horizon = length - t if config.horizon == 0 else min(config.horizon, length - t)

        def tokens(b: int = b, t: int = t) -> dict[str, torch.Tensor]:
            dims = {"states": obs_dim, "returns": 1, "actions": action_dim, "rewards": 1}
            blank = {name: torch.full((1, length, dim), 1e3) for name, dim in dims.items()}  # hidden: must not matter
            for step in range(t + 1):
                blank["states"][0, step] = (torch.from_numpy(context.observations[b, step]) - state_mean) / state_std
            for step in range(t):
                blank["actions"][0, step] = torch.from_numpy(context.actions[b, step])
            return blank

        rcbc = np.zeros((4, length), dtype=bool)
        rcbc[0, : t + 1] = rcbc[1] = rcbc[2, :t] = True
        asked = tokens()
        for step in range(length):
            in_episode = min(timestep - t + step, prompt.time_limit - 1)
            value = prompt.best_at_step[in_episode] * config.return_ratio
            asked["returns"][0, step, 0] = (float(value) - model.returns_mean.item()) / model.returns_std.item()
            if config.return_limit > 0:
                asked["returns"][0, step, 0] = min(asked["returns"][0, step, 0].item(), config.return_limit)
        proposal = model(asked, rcbc)
        mean, log_std = proposal.action_mean[0, t:], proposal.action_log_std[0, t:]

        candidates, states, rewards, utilities = [], [], [], []
        for i in range(config.num_candidates):
            sequence = torch.tanh(mean + torch.exp(log_std) * torch.from_numpy(noise[b][i]))
            fd = np.zeros((4, length), dtype=bool)
            fd[0, : t + 1] = fd[2] = True
            imagined = tokens()
            imagined["actions"][0, t:] = sequence
            prediction = model(imagined, fd)
            path = prediction.states[0]
            if config.rewards_from == "rp":
                rp = np.zeros((4, length), dtype=bool)
                rp[0] = rp[2] = True
                imagined["states"][0, t + 1 :] = path[t + 1 :]
                prediction = model(imagined, rp)
            reward = prediction.rewards[0, :, 0] * model.rewards_std + model.rewards_mean
            returns = prediction.returns[0, :, 0] * model.returns_std + model.returns_mean
            raw_path = path * state_std + state_mean
            terminal_values = []
            for n in range(horizon):
                if guide == "return":
                    left = max(prompt.time_limit - (timestep + n), 1) if prompt.scale == "average" else 1
                    terminal_values.append(returns[t + n].item() * left)
                else:
                    visited = raw_path[t + n]
                    if n == 0 and config.current_state == "true":
                        visited = torch.from_numpy(context.observations[b, t])
                    terminal_values.append(critic.q_min(visited[None], sequence[n][None]).item())
            td_lambda = 0.6 if config.td_lambda is None else config.td_lambda
            earned = [reward[t + k].item() for k in range(horizon)]
            utilities.append(slow_utility(earned, terminal_values, discount, td_lambda))
            candidates.append(sequence.numpy())
            states.append(raw_path[t + 1 :].numpy())
            rewards.append(reward[t : t + horizon].numpy())
        scores = np.array(utilities)
        xi = config.utility_sharpness_return if guide == "return" else config.utility_sharpness_critic
        xi /= config.utility_unit_return if guide == "return" else config.utility_unit_critic
        weights = np.exp(xi * (scores - scores.max()))
        weights /= weights.sum()
        out["candidates"].append(np.array(candidates))
        out["states"].append(np.array(states))
        out["rewards"].append(np.array(rewards))
        out["utilities"].append(scores)
        count = len(candidates)
        action = sum(w * c[0] for w, c in zip(weights, candidates, strict=True))
        if config.average == "around_mean":
            draws = np.random.default_rng(0).normal(size=(200_000, action_dim))
            exact = np.tanh(mean[0].numpy() + np.exp(log_std[0].numpy()) * draws).mean(0)
            action = np.clip(action + exact - sum(c[0] for c in candidates) / count, -1.0, 1.0)
        elif config.average == "around_mode":
            moved = sum((w - 1 / count) * z[0] for w, z in zip(weights, noise[b], strict=True))
            action = np.tanh(mean[0].numpy() + np.exp(log_std[0].numpy()) * moved)
        out["actions"].append(action)
    return out
