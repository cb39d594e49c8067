"""Forward M³PC (Algorithm 1): propose with one mask, imagine with another, score, choose."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3pc_ray.config import Guide, PlannerConfig
from m3pc_ray.configuration_ranges import asked_shares
from m3pc_ray.critic.iql import IQLCritic
from m3pc_ray.errors import UserError
from m3pc_ray.model.distribution import SquashedGaussian
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.model.precision import resolve_precision
from m3pc_ray.planning.batch_shapes import padded
from m3pc_ray.planning.checks import check_planner, dynamics_of, lambda_of
from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.planning.engine import FastInference
from m3pc_ray.planning.fixed_noise import FixedNoiseInference
from m3pc_ray.planning.imagined import Imagined, rolled_out
from m3pc_ray.planning.inference import Inference, Window
from m3pc_ray.planning.oracle import PlainInference
from m3pc_ray.planning.paired import PairedInference
from m3pc_ray.planning.plan import Plan, PlanDetails, PlanRecord, merge_plans
from m3pc_ray.planning.population import count_elites, draw, fitted, rest_of_previous
from m3pc_ray.planning.prompts import ReturnPrompt
from m3pc_ray.planning.randomness import decision_noise
from m3pc_ray.planning.scoring import FastScorer, Scorer, scored
from m3pc_ray.planning.utility import effective_sample_size, softmax_probabilities, utility
from m3pc_ray.trajectories.returns import to_sum


class ForwardPlanner:
    """Plans for many environments at once.

    Args:
        model: the trajectory model. The planner works on its weights as they were at the last `refresh()`.
        critic: the Qs for guide `critic`; None where there is none.
        config: settings.
        discount: gamma of eq. 3, the critic's.
        prompt: the returns that may be asked for.
        device: where to compute, such as `cpu`, `cuda` or `cuda:1`.
        inference: answers the model's two questions; None: what `config.engine` names, on `model`.
        proposer: another model of the same sizes and statistics, for the RCBC pass; None: `model` proposes too.

    Raises:
        UserError: a setting is out of its range, or the guide needs a critic and there is none.
    """

    def __init__(
        self,
        model: TrajectoryModel,
        critic: IQLCritic | None,
        config: PlannerConfig,
        discount: float,
        prompt: ReturnPrompt,
        device: torch.device | str = "cpu",
        inference: Inference | None = None,
        proposer: TrajectoryModel | None = None,
    ) -> None:
        check_planner(config, model.config.segment_length)
        self.config, self.discount, self.prompt = config, discount, prompt
        self.segment_length = model.config.segment_length
        self.device = torch.device(device)
        self.dtype = torch.float32 if config.engine == "plain" else resolve_precision(config.precision, self.device)
        self._model, self._critic_source = model, critic
        self._units = copy.deepcopy(model).to(self.device).eval().requires_grad_(False)
        self._critic = None if critic is None else copy.deepcopy(critic).to(self.device).requires_grad_(False)
        self._scorer: Scorer | None = self._critic
        if config.engine == "fast" and isinstance(self._critic, IQLCritic):
            self._scorer = FastScorer(self._critic, self.dtype)
        self._inference = self._make_inference(model) if inference is None else inference
        if proposer is not None:
            self._inference = PairedInference(self._make_inference(proposer), self._inference)
        if config.action_noise == "fixed":
            self._inference = FixedNoiseInference(self._inference, config.noise_std)
        self._guide_or_error(config.guide)
        self._dynamics = dynamics_of(self._critic, config)

    def _make_inference(self, model: TrajectoryModel) -> Inference:
        if self.config.engine == "plain":
            return PlainInference(model, self.device)
        return FastInference(model, self.dtype, self.device)

    @property
    def model(self) -> TrajectoryModel:
        """The planner's own float32 copy of the model, for its units and for predictions; not to be trained."""
        return self._units

    @property
    def critic(self) -> IQLCritic | None:
        """The planner's own copy of the critic; None where there is none."""
        return self._critic

    def td_lambda(self, guide: Guide) -> float:
        """lambda of the utilities (eq. 3) with a guide."""
        return lambda_of(self.config, self._dynamics if guide == "critic" else None)

    def refresh(self) -> None:
        """Takes over the present weights of the model and the critic the planner was made with."""
        self._units.load_state_dict(self._model.state_dict())
        if self._critic is not None and self._critic_source is not None:
            self._critic.load_state_dict(self._critic_source.state_dict())
        if isinstance(self._scorer, FastScorer):
            self._scorer.refresh()
        self._inference.refresh()

    def load_weights(self, model_arrays: Mapping[str, Any], critic_arrays: Mapping[str, Any] | None = None) -> None:
        """Overwrites model and critic in place, from arrays or tensors by parameter name, and refreshes.

        The arrays may be read-only, as Ray's are. Raises RuntimeError where names or shapes differ.
        """
        self._model.load_state_dict({name: _copied(value) for name, value in model_arrays.items()})
        if critic_arrays is not None and self._critic_source is not None:
            self._critic_source.load_state_dict({name: _copied(value) for name, value in critic_arrays.items()})
        self.refresh()

    @torch.inference_mode()
    def plan(
        self,
        context: PlanningContext,
        *,
        guide: Guide | None = None,
        sample: bool = False,
        details: bool = False,
        record: bool = False,
    ) -> Plan:
        """One action for every environment of the context.

        Args:
            guide: `none`: the RCBC pass acts alone; `return`: M³PC-M; `critic`: M³PC-Q; None: the configured one.
            sample: draw the action (of the distribution, or a candidate with probability P) instead of taking the
                distribution's mode, or moving it as `planner.average` says.
            details: return what was considered; None with guide `none`, which considers nothing. Decodes more than
                the utility reads, so that other last bits may come out than without.
            record: return how the choice came about; changes nothing of what is computed.

        Raises:
            UserError: the guide needs a critic and there is none, or the context is malformed or not finite.
        """
        guide = self._guide_or_error(self.config.guide if guide is None else guide)
        context.check(self._units.observation_dim, self._units.action_dim)
        if context.context_length != self.config.context_length:
            raise UserError(
                f"planning context holds {context.context_length} past steps; planner.context_length is "
                f"{self.config.context_length}"
            )
        groups = context.same_positions()
        plans = [
            self._plan_group(context.select(padded(rows)), guide, sample, details, record).first_rows(len(rows))
            for rows in groups
        ]
        return merge_plans(plans, groups)

    @torch.inference_mode()
    def proposal(self, context: PlanningContext) -> SquashedGaussian:
        """What the next actions are drawn from, planning aside: mean and log_std (B, action_dim)."""
        groups = context.same_positions()
        parts = [context.select(rows) for rows in groups]
        proposed = [self._inference.propose(self._window(part, int(part.positions[0])), steps=1) for part in parts]
        order = torch.as_tensor(np.argsort(np.concatenate(groups)), device=self.device)
        mean, log_std = (
            torch.cat([getattr(part, name)[:, 0] for part in proposed])[order] for name in ("mean", "log_std")
        )
        return SquashedGaussian(mean, log_std, proposed[0].action_clip)

    def _plan_group(self, context: PlanningContext, guide: Guide, sample: bool, details: bool, record: bool) -> Plan:
        """Algorithm 1 for environments at the same position t of their windows."""
        config, t = self.config, int(context.positions[0])
        window = self._window(context, t)
        if guide == "none":
            distribution = self._inference.propose(window, steps=1)
            if sample:
                drawn, _ = decision_noise(context.keys, 1, 1, self._units.action_dim)
                actions = distribution.sample(self._tensor(drawn[:, 0]))[:, 0]
            else:
                actions = distribution.mode()[:, 0]
            nothing = np.zeros((len(context), 0), dtype=np.float32), np.full(len(context), -1)
            return Plan(_numpy(actions), record=PlanRecord.of(*nothing) if record else None)

        # Lines 3-5: RCBC pass; N candidate sequences of actions a_t..a_{T-1} from it.
        steps = self.segment_length - t
        horizon = min(config.horizon or steps, steps)  # h
        drawn, uniform = decision_noise(context.keys, config.num_candidates, steps, self._units.action_dim)
        population = draw(self._inference, window, self._tensor(drawn), asked_shares(config.asked_returns))
        if config.warm_start:
            previous = None if context.previous is None else self._tensor(context.previous)
            population = population.with_candidates(rest_of_previous(previous, population.reference))

        # Lines 6-8: FD pass (and RP pass) for what they lead to; eq. 3 for what that is worth.
        imagined = self._imagine(window, context, population.actions, horizon, guide, details)
        utilities = utility(imagined.rewards, imagined.terminal_values, self.discount, self.td_lambda(guide))  # (B, N)
        sharpness = (
            config.utility_sharpness_critic / config.utility_unit_critic
            if guide == "critic"
            else config.utility_sharpness_return / config.utility_unit_return
        )
        for refinement in range(1, config.refinement_steps + 1):
            best = utilities.topk(count_elites(config, len(population)), dim=1).indices
            kept, kept_utilities = population.take(best), utilities.gather(1, best)
            others = len(population) - best.shape[1]
            drawn, _ = decision_noise(context.keys, others, steps, self._units.action_dim, refinement)
            around = fitted(
                kept.actions, kept_utilities, sharpness, self._tensor(drawn), least_std=config.refinement_noise
            )
            found = self._imagine(window, context, around, horizon, guide, details)
            fresh = utility(found.rewards, found.terminal_values, self.discount, self.td_lambda(guide))
            population, imagined = kept.with_candidates(around), imagined.take(best).joined(found)
            utilities = torch.cat([kept_utilities, fresh], dim=1)

        # Line 9: eq. 4, then the choice, of all steps where the next decision is to start from them.
        probabilities = softmax_probabilities(utilities, sharpness)  # (B, N)
        wanted = steps if config.warm_start or details else 1
        if sample:
            chosen = (probabilities.cumsum(-1) <= self._tensor(uniform).unsqueeze(-1)).sum(-1)
            chosen = chosen.clamp(max=len(population) - 1)  # the sum may end just below 1
            planned = population.actions[torch.arange(len(chosen), device=self.device), chosen, :wanted]
        else:
            chosen = torch.full((len(context),), -1)
            planned = population.average(probabilities, config.average, 1)
            if wanted > 1:  # the first step stays the bits it is alone
                planned = torch.cat([planned, population.average(probabilities, config.average, wanted)[:, 1:]], dim=1)
        first_actions = _numpy(planned[:, 0])
        rest = self._rest(planned) if config.warm_start else None
        recorded = PlanRecord.of(_numpy(utilities), _numpy(chosen)) if record else None
        if not details:
            return Plan(first_actions, record=recorded, rest=rest)
        considered = PlanDetails(
            candidates=_numpy(population.actions),
            utilities=_numpy(utilities),
            probabilities=_numpy(probabilities.float()),
            predicted_states=_numpy(self._units.denormalise("states", imagined.states)),
            predicted_rewards=_numpy(imagined.rewards),
            terminal_values=_numpy(imagined.terminal_values),
            effective_sample_size=_numpy(effective_sample_size(probabilities).float()),
            chosen=_numpy(chosen),
            planned=_numpy(planned.unsqueeze(1)),
        )
        return Plan(first_actions, considered, recorded, rest)

    @torch.inference_mode()
    def foresee(
        self, context: PlanningContext, actions: NDArray[np.float32], *, guide: Guide | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the model predicts for given actions, as Algorithm 1 does for its candidates, and what that is worth.

        Args:
            context: B environments at the same position t of their windows.
            actions: (B, K, T - t, action_dim) in (-1, 1), sequences t..T-1.
            guide: `return` or `critic`; None: the configured one.

        Returns:
            States (B, K, T - t - 1, observation_dim) at t + 1.., raw units; utilities (B, K), eq. 3.

        Raises:
            UserError: the guide is `none`, or `critic` without one; positions differ, or actions do not fit them.
        """
        guide = self._guide_or_error(self.config.guide if guide is None else guide)
        t = int(context.positions[0])
        expected = (len(context), self.segment_length - t, self._units.action_dim)
        if guide == "none" or (context.positions != t).any() or (*actions.shape[:1], *actions.shape[2:]) != expected:
            raise UserError(
                f"planner {guide} cannot foresee actions of shape {actions.shape} at positions {context.positions}"
            )
        steps = self.segment_length - t
        candidates, horizon = self._tensor(actions), min(self.config.horizon or steps, steps)
        imagined = self._imagine(self._window(context, t), context, candidates, horizon, guide, True)
        worth = utility(imagined.rewards, imagined.terminal_values, self.discount, self.td_lambda(guide))
        return _numpy(self._units.denormalise("states", imagined.states)), _numpy(worth)

    def _rest(self, planned: Tensor) -> NDArray[np.float32]:
        """Actions (B, T - 1, action_dim) after the first of (B, H, action_dim), NaN beyond the window's end."""
        rest = planned.new_full((len(planned), self.segment_length - 1, planned.shape[2]), torch.nan)
        rest[:, : planned.shape[1] - 1] = planned[:, 1:]
        return _numpy(rest)

    def _imagine(
        self,
        window: Window,
        context: PlanningContext,
        candidates: Tensor,
        horizon: int,
        guide: Guide,
        details: bool,
    ) -> Imagined:
        """Rewards and terminal values of the first `horizon` steps; with `details`, all states too."""
        if guide == "critic" and self._dynamics is not None:
            assert self._scorer is not None
            return rolled_out(
                self._dynamics, self._scorer, self.config, self._units, window, candidates, horizon, details
            )
        config, t, last = self.config, window.position, self.segment_length
        # Only what the utility reads is decoded: rewards r_t..r_{t+h-2}, states s_{t+1}..s_{t+h-1} for the critic.
        last_reward = t + horizon if details else t + horizon - 1
        values: dict[str, range] = {"rewards": range(t, last_reward)}
        if guide == "return":
            values["returns"] = range(t, t + horizon)
        separate = config.rewards_from == "rp"
        reconstructed = guide == "critic" and config.current_state == "reconstructed"
        last_state = last if details or separate else t + horizon if guide == "critic" else t + 1
        queries: dict[str, range] = {"states": range(t if reconstructed else t + 1, last_state)}
        if not separate:
            queries |= values
        predicted = self._ask(window, candidates, queries)
        states = predicted["states"]  # normalised
        later_states = states[:, :, 1:] if reconstructed else states  # from t + 1 on
        if separate:
            predicted |= self._ask(window, candidates, values, later_states)
        rewards = self._units.denormalise("rewards", predicted["rewards"]).squeeze(-1)  # (B, N, h or h - 1)
        if guide == "return":
            # g_{t+n}, as plain sums: each step's token has that step's own scale.
            tokens = self._units.denormalise("returns", predicted["returns"]).squeeze(-1)
            timesteps = self._tensor(context.timesteps)[:, None, None] + torch.arange(horizon, device=self.device)
            terminal_values = to_sum(tokens, timesteps, self.prompt.scale, self.prompt.time_limit)
        else:
            current = (
                states[:, :, :1]
                if reconstructed
                else window.states[:, None, -1:].expand(-1, candidates.shape[1], -1, -1)
            )
            visited = torch.cat([current, later_states[:, :, : horizon - 1]], dim=2)  # s_t..s_{t+h-1}
            assert self._scorer is not None
            first_actions = candidates[:, :, :horizon].contiguous()
            terminal_values = scored(self._scorer, config, self._units.denormalise("states", visited), first_actions)
        return Imagined(later_states, rewards, terminal_values)

    def _ask(
        self, window: Window, candidates: Tensor, queries: Mapping[str, range], imagined: Tensor | None = None
    ) -> dict[str, Tensor]:
        """`Inference.predict` without the modalities of which no step is wanted; those come back empty."""
        wanted = {name: steps for name, steps in queries.items() if len(steps)}
        answers = self._inference.predict(window, candidates, wanted, imagined) if wanted else {}
        for name in queries:
            if name not in answers:
                dim = self._units.observation_dim if name == "states" else 1
                answers[name] = candidates.new_zeros(*candidates.shape[:2], 0, dim)
        return answers

    def _window(self, context: PlanningContext, t: int) -> Window:
        returns = self.prompt.values(
            context.timesteps,
            context.positions,
            self.segment_length,
            self.config.return_prompt,
            self.config.return_ratio,
        )
        asked = self._units.normalise("returns", self._tensor(returns).unsqueeze(-1))
        if self.config.return_limit:
            # A return that next to no training segment had is no condition but noise.
            asked = asked.clamp(max=self.config.return_limit)
        return Window(
            states=self._units.normalise("states", self._tensor(context.observations[:, : t + 1])),
            actions=self._tensor(context.actions[:, :t]),
            returns=asked,
        )

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def _guide_or_error(self, guide: Guide) -> Guide:
        if guide not in ("none", "return", "critic"):
            raise UserError(f"planner.guide is {guide!r}; it must be none, return or critic")
        if guide == "critic" and self._critic is None:
            raise UserError("planner.guide is critic, but there is no critic: train one, or use guide return or none")
        return guide


def _copied(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(np.asarray(value))


def _numpy(values: Tensor) -> NDArray[Any]:
    result: NDArray[Any] = values.cpu().numpy()
    return result
