"""What else a decision may do, one environment and one candidate at a time: several asked returns, an earlier plan,
refinement, the Qs' spread. Shares with the product the network's forward pass, the critic's networks and the noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from m3pc_ray.config import PlannerConfig
from m3pc_ray.critic.iql import IQLCritic
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.planning.prompts import ReturnPrompt
from m3pc_ray.planning.randomness import decision_noise
from tests.planning.slow_algorithm import slow_utility


class SlowDecision:
    """One environment's decision; `run` fills candidates, utilities, action, and the gap at the elites' edge."""

    def __init__(
        self,
        model: TrajectoryModel,
        critic: IQLCritic,
        config: PlannerConfig,
        discount: float,
        prompt: ReturnPrompt,
        context: PlanningContext,
        guide: str,
    ) -> None:
        self.model, self.critic, self.config, self.guide = model.eval(), critic, config, guide
        self.discount, self.prompt, self.context = discount, prompt, context
        self.length = model.config.segment_length
        self.timestep = int(context.timesteps[0])
        self.t = min(self.timestep, config.context_length)
        self.steps = self.length - self.t
        self.horizon = min(config.horizon or self.steps, self.steps)
        self.gap = math.inf

    def run(self) -> SlowDecision:
        config = self.config
        shares = [float(part) for part in config.asked_returns.split(",")] if config.asked_returns else [1.0]
        proposals = [self.propose(share) for share in shares]
        mean, std = proposals[0]
        noise = self.noise(config.num_candidates, 0)
        self.mean, self.std = mean, std
        self.candidates, self.places, error_noise, error_action = [], [], np.zeros_like(mean), np.zeros_like(mean)
        for i in range(config.num_candidates):
            own_mean, own_std = proposals[i % len(proposals)]
            action = np.tanh(own_mean + own_std * noise[i])
            error_noise += own_std * noise[i] / std / config.num_candidates
            error_action += (action - expected_action(own_mean, own_std)) / config.num_candidates
            self.candidates.append(action)
            self.places.append((own_mean + own_std * noise[i] - mean) / std)  # exact, however near the bound it is
        if config.warm_start:
            going_on = np.tanh(mean)
            for step in range(self.steps):
                for dim in range(mean.shape[1]):
                    previous = self.context.previous
                    if previous is not None and step < previous.shape[1] and not np.isnan(previous[0, step, dim]):
                        going_on[step, dim] = previous[0, step, dim]
            self.candidates.append(going_on)
            self.places.append(self.place_of(going_on))
        self.utilities = [self.worth(candidate) for candidate in self.candidates]
        for refinement in range(1, config.refinement_steps + 1):
            self.refine(refinement)
        self.error_noise, self.error_action = error_noise, error_action
        self.plan = self.plan_for(self.utilities)
        return self

    def plan_for(self, utilities: Sequence[float]) -> np.ndarray:
        """Eq. 4 over the last candidates, for utilities that may come from elsewhere."""
        weights = self.weights(utilities)
        weighed = list(zip(weights, self.candidates, strict=True))
        if self.config.average == "plain":
            return sum(weight * candidate for weight, candidate in weighed)
        if self.config.average == "around_mean":
            return np.clip(sum(weight * candidate for weight, candidate in weighed) - self.error_action, -1.0, 1.0)
        place = sum(weight * place for weight, place in zip(weights, self.places, strict=True)) - self.error_noise
        return np.tanh(self.mean + self.std * place)

    def place_of(self, candidate: np.ndarray) -> np.ndarray:
        """Of an action that was not drawn, the noise that would have drawn it, at the bounds one just inside."""
        bound = 1.0 - self.model.config.action_clip
        return (np.arctanh(np.clip(candidate, -bound, bound)) - self.mean) / self.std

    def refine(self, refinement: int) -> None:
        config = self.config
        count = len(self.candidates)
        elites = max(1, min(count - 1, round(config.elite_fraction * count)))
        order = sorted(range(count), key=lambda i: -self.utilities[i])
        self.gap = min(self.gap, self.utilities[order[elites - 1]] - self.utilities[order[elites]])
        kept = [self.candidates[i] for i in order[:elites]]
        kept_utilities = [self.utilities[i] for i in order[:elites]]
        weights = self.weights(kept_utilities)
        mean = sum(weight * candidate for weight, candidate in zip(weights, kept, strict=True))
        variance = sum(weight * (candidate - mean) ** 2 for weight, candidate in zip(weights, kept, strict=True))
        std = np.maximum(np.sqrt(variance), config.refinement_noise)
        noise = self.noise(count - elites, refinement)
        fresh = [np.clip(mean + std * noise[i], -1.0, 1.0) for i in range(count - elites)]
        self.candidates = kept + fresh
        self.places = [self.places[i] for i in order[:elites]] + [self.place_of(candidate) for candidate in fresh]
        self.utilities = kept_utilities + [self.worth(candidate) for candidate in fresh]

    def noise(self, count: int, refinement: int) -> np.ndarray:
        dim = self.model.action_dim
        return decision_noise(self.context.keys, count, self.steps, dim, refinement)[0][0].astype(np.float64)

    def weights(self, utilities: Sequence[float]) -> np.ndarray:
        config = self.config
        xi = config.utility_sharpness_critic / config.utility_unit_critic
        if self.guide == "return":
            xi = config.utility_sharpness_return / config.utility_unit_return
        weights = np.exp(xi * (np.array(utilities) - max(utilities)))
        return weights / weights.sum()

    def tokens(self) -> dict[str, torch.Tensor]:
        dims = {"states": self.model.observation_dim, "returns": 1, "actions": self.model.action_dim, "rewards": 1}
        blank = {name: torch.full((1, self.length, dim), 1e3) for name, dim in dims.items()}  # hidden: must not matter
        for step in range(self.t + 1):
            state = torch.from_numpy(self.context.observations[0, step])
            blank["states"][0, step] = (state - self.model.states_mean) / self.model.states_std
        for step in range(self.t):
            blank["actions"][0, step] = torch.from_numpy(self.context.actions[0, step])
        return blank

    @torch.no_grad()
    def propose(self, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (steps, action_dim), before the tanh, for a share of the asked return."""
        mask = np.zeros((4, self.length), dtype=bool)
        mask[0, : self.t + 1] = mask[1] = mask[2, : self.t] = True
        shown = self.tokens()
        for step in range(self.length):
            value = float(self.prompt.best_at_step[min(self.timestep - self.t + step, self.prompt.time_limit - 1)])
            asked = (value - self.model.returns_mean.item()) / self.model.returns_std.item()
            shown["returns"][0, step, 0] = share * min(asked, self.config.return_limit or math.inf)
        proposal = self.model(shown, mask)
        mean, log_std = proposal.action_mean[0, self.t :], proposal.action_log_std[0, self.t :]
        return mean.numpy().astype(np.float64), torch.exp(log_std).numpy().astype(np.float64)

    @torch.no_grad()
    def worth(self, candidate: np.ndarray) -> float:
        mask = np.zeros((4, self.length), dtype=bool)
        mask[0, : self.t + 1] = mask[2] = True
        shown = self.tokens()
        actions = torch.from_numpy(candidate).float()
        shown["actions"][0, self.t :] = actions
        seen, model = self.model(shown, mask), self.model
        rewards = (seen.rewards[0, :, 0] * model.rewards_std + model.rewards_mean).tolist()
        returns = (seen.returns[0, :, 0] * model.returns_std + model.returns_mean).tolist()
        states = seen.states[0] * model.states_std + model.states_mean
        states[self.t] = torch.from_numpy(self.context.observations[0, self.t])
        values = []
        for n in range(self.horizon):
            if self.guide == "return":
                left = max(self.prompt.time_limit - (self.timestep + n), 1) if self.prompt.scale == "average" else 1
                values.append(returns[self.t + n] * left)
                continue
            members = self.critic.q_members(states[self.t + n][None], actions[n][None])[:, 0].double().numpy()
            spread = math.sqrt(sum((q - members.mean()) ** 2 for q in members) / len(members))
            together = min(members) if self.config.ensemble_value == "minimum" else sum(members) / len(members)
            values.append(together - self.config.pessimism * spread)
        given = self.config.td_lambda
        return slow_utility(rewards[self.t :], values, self.discount, 0.6 if given is None else given)


def expected_action(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """E[tanh(mean + std z)] by the trapezoidal rule."""
    z = np.linspace(-9.0, 9.0, 4001)
    density = np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi) * (z[1] - z[0])
    return (np.tanh(mean[..., None] + std[..., None] * z) * density).sum(-1)
