"""Why planning helps or does not: is the model right, does the utility rank actions as reality does, is P sane.

For states visited by acting, K of the planner's candidates are executed in the real simulator from exactly that state,
followed by the single-mask policy. What then happened is compared with what the planner thought of the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from m3pc_ray.agent import Agent
from m3pc_ray.config import Guide, RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.branches import Branches, VisitedStates, run_branches, visit_states
from m3pc_ray.evaluation.held_out import check_sizes, is_data_of_run, split_of_run

if TYPE_CHECKING:
    from m3pc_ray.planning.plan import PlanDetails
    from m3pc_ray.training.assemble import Models
    from m3pc_ray.training.data import SegmentData
    from m3pc_ray.trajectories.episodes import Trajectories

FloatArray = npt.NDArray[np.floating[Any]]


CEILING_NOISE = 0.01
"""Standard deviation of the noise on the actions, in (-1, 1), by which `rank_correlation_ceiling` is measured."""


@dataclass(frozen=True)
class DiagnosticsConfig:
    states: int = 20
    """Visited states examined."""
    candidates: int = 16
    """Candidates executed from each of them."""
    rollout_steps: int = 200
    """Steps of the single-mask policy after a candidate's own actions."""
    seed: int = 1000
    """Seed of the episodes that visit the states."""
    visit: Guide = "none"
    """Planner that visits the states."""


def diagnose_guide(
    agent: Agent,
    guide: Guide,
    visited: VisitedStates,
    config: DiagnosticsConfig,
    executed: dict[bytes, tuple[Branches, FloatArray]] | None = None,
) -> dict[str, Any]:
    """One row about the planner with `guide` at the visited states.

    Keys, each a mean over the states, with a standard error (`_sem`) where it decides something:
        rank_correlation: Spearman's, of utility with the real discounted return, within a state. 1: the planner knows
            the best candidate; 0: it chooses by noise.
        rank_correlation_rewards: of the predicted with the real reward of the planned steps; the model's share.
        rank_correlation_critic: of min(Q1, Q2) at the true state and first action with the real return; needs no model.
        rank_correlation_true_model: of eq. 3 with the critic over the real states and rewards; what the guide `critic`
            would reach with a perfect model. The rest up to the ceiling is the critic's share. None without a critic.
        rank_correlation_ceiling: between the real returns of the candidates and of the same candidates with a hundredth
            of noise; what can be foreseen at all of what the simulator and the policy after the candidate do.
        gain_planned: real return of the planned action less that of the single mask's action, the single mask following
            both; what one planned decision is worth.
        gain_best_utility, gain_weighted: of the candidate with the highest utility, of the P-weighted candidates, less
            the candidates' mean; gain_possible: of the best candidate in hindsight.
        utility_spread, return_spread: standard deviation over candidates within a state; sharpness times the spread of
            utilities says how far the softmax departs from a plain mean.
        utility_bias: utility less real return (the latter lacks what lies beyond the rollout).
        effective_sample_size: 1 / sum P^2 of the softmax over all candidates, and its share of them.
        states_error_n: squared error of the predicted state n steps ahead, in units of the data's variance;
        states_change_n: the same of the guess that the state does not change, which a useful model must beat;
        rewards_error: of the predicted rewards, in units of the data's variance.
    `executed` keeps what candidates led to from one guide to the next: both draw the same ones.
    Raises UserError for guide `none`, which considers nothing.
    """
    if guide == "none":
        raise UserError("planner none considers no candidates; diagnose return or critic")
    planner = agent.planner
    discount = float(planner.discount)
    plan = planner.plan(visited.context, guide=guide, details=True)
    baseline = planner.plan(visited.context, guide="none")
    assert plan.details is not None
    details: PlanDetails = plan.details
    total = details.utilities.shape[1]
    picked = pick_candidates(len(visited), total, config.candidates, config.seed)  # (S, K)
    horizon = shared_horizon(agent)
    chosen = np.take_along_axis(details.candidates, picked[:, :, None, None], axis=1)[:, :, :horizon]  # (S, K, h, act)
    agent.guide = "none"
    executed = {} if executed is None else executed
    key = chosen.tobytes()
    if key not in executed:
        noise = np.random.default_rng([config.seed, 33]).normal(0.0, CEILING_NOISE, chosen.shape)
        shaken = np.clip(chosen + noise, -1.0, 1.0).astype(np.float32)
        steps = config.rollout_steps
        real, again = (
            run_branches(agent, visited, actions, rollout_steps=steps, discount=discount)
            for actions in (chosen, shaken)
        )
        executed[key] = real, rank_correlations(again.returns, real.returns)
    branches, ceiling = executed[key]
    decided = np.stack([plan.actions, baseline.actions], axis=1)[:, :, None, :]  # (S, 2, 1, action)
    steps_left = config.rollout_steps + horizon - 1
    decisions = run_branches(agent, visited, decided, rollout_steps=steps_left, discount=discount)
    row: dict[str, Any] = {"kind": "planner", "planner": guide, "states": len(visited), "candidates": picked.shape[1]}
    row |= {"num_candidates": total, "rollout_steps": config.rollout_steps}
    row |= _ranking(agent, visited, details, picked, chosen, branches, discount)
    row |= _mean("rank_correlation_ceiling", ceiling)
    row |= _mean("gain_planned", decisions.returns[:, 0] - decisions.returns[:, 1])
    row |= {"terminated_fraction": float(branches.terminated.mean())}
    row |= _softmax(details)
    row |= _model_errors(agent, visited, details, picked, branches)
    return row


def pick_candidates(states: int, total: int, count: int, seed: int) -> npt.NDArray[np.int64]:
    """(states, min(count, total)) distinct candidate indices for every state."""
    rng = np.random.default_rng([seed, 32])
    return np.stack([rng.permutation(total)[: min(count, total)] for _ in range(states)])


def _ranking(
    agent: Agent,
    visited: VisitedStates,
    details: PlanDetails,
    picked: npt.NDArray[np.int64],
    chosen: FloatArray,
    branches: Branches,
    discount: float,
) -> dict[str, Any]:
    utilities = np.take_along_axis(details.utilities, picked, axis=1).astype(np.float64)
    probabilities = np.take_along_axis(details.probabilities, picked, axis=1).astype(np.float64)
    probabilities /= np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-300)
    real = branches.returns
    horizon = branches.rewards.shape[2]
    discounts = discount ** np.arange(horizon)
    predicted_rewards = np.take_along_axis(details.predicted_rewards, picked[:, :, None], axis=1)[:, :, :horizon]
    row = _mean("rank_correlation", rank_correlations(utilities, real))
    row |= _mean(
        "rank_correlation_rewards",
        rank_correlations((predicted_rewards * discounts).sum(-1), (branches.rewards * discounts).sum(-1)),
    )
    values = critic_values(agent, visited, chosen[:, :, 0])
    row |= _mean("rank_correlation_critic", None if values is None else rank_correlations(values, real))
    truly = true_model_utilities(agent, visited, chosen, branches)
    row |= _mean("rank_correlation_true_model", None if truly is None else rank_correlations(truly, real))
    mean = real.mean(axis=1)
    row |= _mean("gain_best_utility", np.take_along_axis(real, utilities.argmax(1)[:, None], 1)[:, 0] - mean)
    row |= _mean("gain_weighted", (probabilities * real).sum(1) - mean)
    row |= _mean("gain_possible", real.max(axis=1) - mean)
    row["utility_spread"] = float(details.utilities.std(axis=1).mean())
    row["return_spread"] = float(real.std(axis=1).mean())
    row["utility_bias"] = float((utilities - real).mean())
    row["real_return"] = float(real.mean())
    return row


def _softmax(details: PlanDetails) -> dict[str, Any]:
    sizes = np.asarray(details.effective_sample_size, dtype=np.float64)
    return {
        "effective_sample_size": float(sizes.mean()),
        "effective_sample_size_min": float(sizes.min()),
        "effective_sample_fraction": float(sizes.mean() / details.utilities.shape[1]),
        "largest_probability": float(details.probabilities.max(axis=1).mean()),
        "first_action_spread": float(details.candidates[:, :, 0].std(axis=1).mean()),
    }


def _model_errors(
    agent: Agent, visited: VisitedStates, details: PlanDetails, picked: npt.NDArray[np.int64], branches: Branches
) -> dict[str, Any]:
    model = agent.planner.model
    states_std = model.get_buffer("states_std").cpu().numpy()
    rewards_std = float(model.get_buffer("rewards_std"))
    predicted = np.take_along_axis(details.predicted_states, picked[:, :, None, None], axis=1)
    row: dict[str, Any] = {}
    current = visited.observations()[:, None]
    last = agent.planner.segment_length - agent.planner.config.context_length - 1
    for ahead in range(1, min(shared_horizon(agent), last) + 1):
        alive = branches.alive[:, :, ahead - 1]
        difference = (predicted[:, :, ahead - 1] - branches.states[:, :, ahead - 1]) / states_std
        squared = np.square(difference).mean(axis=-1)[alive]
        row[f"states_error_{ahead}"] = float(squared.mean()) if squared.size else None
        change = np.square((current - branches.states[:, :, ahead - 1]) / states_std).mean(axis=-1)[alive]
        row[f"states_change_{ahead}"] = float(change.mean()) if change.size else None
    horizon = branches.rewards.shape[2]
    rewards = np.take_along_axis(details.predicted_rewards, picked[:, :, None], axis=1)[:, :, :horizon]
    squared = np.square((rewards - branches.rewards) / rewards_std)[branches.alive]
    row["rewards_error"] = float(squared.mean()) if squared.size else None
    return row


def shared_horizon(agent: Agent) -> int:
    """Steps h that the planner scores at every position of the window."""
    config = agent.planner.config
    longest = agent.planner.segment_length - config.context_length
    return min(config.horizon or longest, longest)


def critic_values(agent: Agent, visited: VisitedStates, actions: FloatArray) -> FloatArray | None:
    """What the planner goes by (S, K) at the true states with actions (S, K, action_dim); None without a critic."""
    import torch

    from m3pc_ray.planning.scoring import scored

    critic = agent.planner.critic
    if critic is None:
        return None
    device = next(critic.parameters()).device
    tiled = np.repeat(visited.observations()[:, None], actions.shape[1], axis=1)  # (S, K, obs)
    with torch.no_grad():
        values = scored(
            critic,
            agent.planner.config,
            torch.as_tensor(tiled, device=device),
            torch.as_tensor(actions, device=device).float(),
        )
    return values.cpu().numpy().astype(np.float64)


def true_model_utilities(
    agent: Agent, visited: VisitedStates, actions: FloatArray, branches: Branches
) -> FloatArray | None:
    """Eq. 3 with the critic (S, K) over what really followed `actions` (S, K, h, action_dim); None without a critic.

    States after a termination are worth nothing.
    """
    import torch

    from m3pc_ray.planning.scoring import scored
    from m3pc_ray.planning.utility import utility

    critic = agent.planner.critic
    if critic is None:
        return None
    device = next(critic.parameters()).device
    first = np.repeat(visited.observations()[:, None, None], actions.shape[1], axis=1)
    states = np.concatenate([first, branches.states[:, :, :-1]], axis=2)  # (S, K, h, obs): s_t..s_{t+h-1}
    with torch.no_grad():
        values = scored(
            critic,
            agent.planner.config,
            torch.as_tensor(states, dtype=torch.float32, device=device),
            torch.as_tensor(actions, dtype=torch.float32, device=device),
        )
        values = values * torch.as_tensor(branches.alive, device=device)
        rewards = torch.as_tensor(branches.rewards, dtype=torch.float32, device=device)
        result = utility(rewards, values, float(agent.planner.discount), agent.planner.td_lambda("critic"))
    return result.cpu().numpy().astype(np.float64)


def rank_correlations(first: FloatArray, second: FloatArray) -> npt.NDArray[np.float64]:
    """Spearman's rank correlation of every row of (S, K) arrays; NaN where a row has no two different values."""
    first_ranks, second_ranks = _ranks(first), _ranks(second)
    centred = first_ranks - first_ranks.mean(1, keepdims=True), second_ranks - second_ranks.mean(1, keepdims=True)
    scale = np.sqrt(np.square(centred[0]).sum(1) * np.square(centred[1]).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, (centred[0] * centred[1]).sum(1) / scale, np.nan)


def _ranks(values: FloatArray) -> npt.NDArray[np.float64]:
    """Ranks within rows; equal values share their mean rank."""
    below = (values[:, None, :] < values[:, :, None]).sum(-1)
    equal = (values[:, None, :] == values[:, :, None]).sum(-1)
    return below + 0.5 * (equal - 1.0)


def _mean(name: str, values: npt.ArrayLike | None) -> dict[str, float | None]:
    if values is None:
        return {name: None, f"{name}_sem": None}
    sample = np.asarray(values, dtype=np.float64)
    sample = sample[np.isfinite(sample)]
    if not len(sample):
        return {name: None, f"{name}_sem": None}
    error = float(sample.std(ddof=1) / np.sqrt(len(sample))) if len(sample) > 1 else 0.0
    return {name: float(sample.mean()), f"{name}_sem": error}


def diagnose_planners(agent: Agent, guides: Sequence[Guide], config: DiagnosticsConfig) -> list[dict[str, Any]]:
    """A row of `diagnose_guide` for every guide, over the same visited states."""
    before = agent.guide
    try:
        for guide in guides:
            agent.guide = guide
        agent.guide = config.visit
        visited = visit_states(agent, config.states, config.seed)
        executed: dict[bytes, tuple[Branches, FloatArray]] = {}
        return [diagnose_guide(agent, guide, visited, config, executed) for guide in guides]
    finally:
        agent.guide = before
        agent.reset()


def mask_errors(models: Models, trajectories: Trajectories) -> list[dict[str, Any]]:
    """Prediction errors per test-time mask on the run's held-out episodes, or on all of foreign data.

    Rows {"kind": "mask", "name", "value"}; see `training.validation.validation_errors` for the names and units.
    Raises UserError when the data's sizes are not the run's.
    """
    from m3pc_ray.model.masks import user_patterns
    from m3pc_ray.training.validation import validation_errors

    data, config = held_out_segments(models, trajectories), models.config
    t = min(config.planner.context_length, models.model.config.segment_length - 1)
    likelihood = config.pretrain.action_loss == "nll"
    errors = validation_errors(models.model, data, t, patterns=user_patterns(config.masks), likelihood=likelihood)
    return [{"kind": "mask", "name": name, "value": value} for name, value in errors.items()]


def held_out_segments(models: Models, trajectories: Trajectories) -> SegmentData:
    """Segments of the run's held-out episodes if `trajectories` is the run's data set, else of all of its episodes.

    Raises UserError when the data's sizes are not the run's.
    """
    from m3pc_ray.training.data import SegmentData

    config: RunConfig = models.config
    check_sizes(models, trajectories)
    if is_data_of_run(models, trajectories) and config.data.validation_fraction > 0:
        _, trajectories = split_of_run(models, trajectories)
    return SegmentData(
        trajectories,
        models.statistics,
        config.data.return_scale,
        models.time_limit,
        models.model.config.segment_length,
        models.action_low,
        models.action_high,
        next(models.model.parameters()).device,
    )
