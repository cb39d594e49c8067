"""The ranges that settings must lie in, and the checks that involve several settings."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator
from functools import reduce
from typing import Any

from m3pc_ray.config import RunConfig
from m3pc_ray.errors import UserError
from m3pc_ray.mask_patterns import parse_patterns

_COUNT = "[1, inf)"
_COUNT_OR_ZERO = "[0, inf)"
_POSITIVE = "(0, inf)"
_FRACTION = "[0, 1]"

RANGES: dict[str, str] = {
    "seed": _COUNT_OR_ZERO,
    "data.validation_fraction": "(0, 1)",
    "data.episodes_fraction": "(0, 1]",
    "data.labelled_fraction": "(0, 1]",
    "data.labelled_share": _FRACTION,
    "data.split_seed": _COUNT_OR_ZERO,
    "data.smallest_state_std": _POSITIVE,
    "data.time_limit": _COUNT_OR_ZERO,
    "model.segment_length": "[2, 64]",
    "model.width": "[8, inf)",
    "model.encoder_layers": _COUNT,
    "model.decoder_layers": _COUNT,
    "model.heads": _COUNT,
    "model.feedforward_multiple": _COUNT,
    "model.dropout": "[0, 1)",
    "model.log_std_min": "[-20, 2]",
    "model.log_std_max": "[-20, 2]",
    "model.action_clip": "(0, 0.5)",
    "masks.groups": _COUNT,
    "masks.test_mask_fraction": _FRACTION,
    "masks.rcbc_weight": _COUNT_OR_ZERO,
    "masks.forward_dynamics_weight": _COUNT_OR_ZERO,
    "masks.reward_prediction_weight": _COUNT_OR_ZERO,
    "masks.inverse_dynamics_weight": _COUNT_OR_ZERO,
    "masks.path_inpainting_weight": _COUNT_OR_ZERO,
    "masks.goal_weight": _COUNT_OR_ZERO,
    "masks.behaviour_cloning_weight": _COUNT_OR_ZERO,
    "pretrain.steps": _COUNT,
    "pretrain.batch_size": _COUNT,
    "pretrain.max_minutes": _COUNT_OR_ZERO,
    "pretrain.critic_fraction": "(0, 1)",
    "pretrain.learning_rate": _POSITIVE,
    "pretrain.beta1": "[0, 1)",
    "pretrain.beta2": "[0, 1)",
    "pretrain.weight_decay": _COUNT_OR_ZERO,
    "pretrain.warmup_steps": _COUNT_OR_ZERO,
    "pretrain.gradient_clip": _COUNT_OR_ZERO,
    "pretrain.entropy_target": "(-inf, inf)",
    "pretrain.entropy_multiplier_init": _POSITIVE,
    "pretrain.entropy_multiplier_learning_rate": _COUNT_OR_ZERO,
    "pretrain.utility_unit_power": _FRACTION,
    "pretrain.log_every": _COUNT,
    "pretrain.validate_every": _COUNT_OR_ZERO,
    "pretrain.checkpoint_minutes": _POSITIVE,
    "pretrain.threads": _COUNT_OR_ZERO,
    "critic.updates": _COUNT,
    "critic.batch_size": _COUNT,
    "critic.hidden_width": _COUNT,
    "critic.ensemble_size": "[2, 64]",
    "critic.expectile": "(0, 1)",
    "critic.discount": "[0, 1]",
    "critic.learning_rate": _POSITIVE,
    "critic.polyak": "(0, 1]",
    "planner.num_candidates": _COUNT,
    "planner.context_length": _COUNT_OR_ZERO,
    "planner.horizon": _COUNT_OR_ZERO,
    "planner.td_lambda": _FRACTION,
    "planner.utility_sharpness_return": _COUNT_OR_ZERO,
    "planner.utility_sharpness_critic": _COUNT_OR_ZERO,
    "planner.utility_unit_return": _POSITIVE,
    "planner.utility_unit_critic": _POSITIVE,
    "planner.pessimism": "(-inf, inf)",
    "planner.refinement_steps": _COUNT_OR_ZERO,
    "planner.elite_fraction": "(0, 1)",
    "planner.refinement_noise": _COUNT_OR_ZERO,
    "planner.noise_std": _POSITIVE,
    "planner.return_ratio": "(-inf, inf)",
    "planner.return_limit": _COUNT_OR_ZERO,
    "backward.context_length": _COUNT_OR_ZERO,
    "backward.completion_rounds": _COUNT_OR_ZERO,
    "backward.wait_steps": _COUNT_OR_ZERO,
    "backward.tolerance": _POSITIVE,
    "evaluation.episodes": _COUNT,
    "evaluation.seed": _COUNT_OR_ZERO,
    "evaluation.parallel_environments": _COUNT,
    "online.steps": _COUNT,
    "online.rollout_workers": _COUNT,
    "online.environments_per_worker": _COUNT,
    "online.worker_cpus": _COUNT_OR_ZERO,
    "online.planners": _COUNT_OR_ZERO,
    "online.btm_updates_per_step": _COUNT_OR_ZERO,
    "online.critic_updates_per_step": _COUNT_OR_ZERO,
    "online.start_steps": _COUNT_OR_ZERO,
    "online.rate_tolerance_steps": _COUNT,
    "online.btm_batch_size": _COUNT,
    "online.btm_learning_rate": _POSITIVE,
    "online.sharpness_factor": _POSITIVE,
    "online.critic_learning_rate": _POSITIVE,
    "online.offline_episodes": _COUNT,
    "online.replay_capacity": _COUNT,
    "online.log_file_megabytes": _COUNT,
    "online.offline_fraction": _FRACTION,
    "online.balanced_after": _COUNT_OR_ZERO,
    "online.num_candidates": _COUNT,
    "online.fragment_steps": _COUNT,
    "online.publish_every": _COUNT,
    "online.max_weight_lag": _COUNT_OR_ZERO,
    "online.evaluate_every": _COUNT_OR_ZERO,
    "online.evaluation_episodes": _COUNT,
    "online.planner_batch_wait_ms": _COUNT_OR_ZERO,
    "online.checkpoint_minutes": _POSITIVE,
    "online.checkpoint_updates": _COUNT,
    "online.keep_checkpoints": _COUNT,
    "online.watchdog_minutes": _COUNT_OR_ZERO,
    "online.max_restarts": _COUNT_OR_ZERO,
    "online.threads": _COUNT_OR_ZERO,
}
"""Interval of every numeric setting; a square bracket includes its end."""


def check_ranges(config: RunConfig, sources: dict[str, str]) -> None:
    """Raises UserError for the first setting out of range; `sources` says where each one was set."""
    for name, interval in RANGES.items():
        value = _get(config, name)
        if value is not None and not inside(value, interval):
            raise UserError(f"{sources.get(name, 'default')}: {name}: must be in {interval}, not {value}")
    for name, problem in _relations(config):
        raise UserError(f"{sources.get(name, 'configuration')}: {name}: {problem}")


def inside(value: float, interval: str) -> bool:
    """Whether `value` lies in an interval written as `[0, 1)`."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = operator.ge if interval[0] == "[" else operator.gt
    below = operator.le if interval[-1] == "]" else operator.lt
    return bool(above(value, low) and below(value, high))


def asked_shares(text: str) -> tuple[float, ...]:
    """What `planner.asked_returns` names. Raises ValueError, with what would be right, where that is no list."""
    try:
        shares = tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        shares = (math.nan,)
    if not all(math.isfinite(share) for share in shares):
        raise ValueError(f"must be numbers with commas between them, such as 0.5,0.75,1, not {text}")
    return shares


def _get(config: RunConfig, name: str) -> Any:
    return reduce(getattr, name.split("."), config)


def _relations(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Name of the setting at fault, and what is wrong."""
    model, masks, planner = config.model, config.masks, config.planner
    if model.width % model.heads:
        yield "model.width", f"must be divisible by model.heads = {model.heads}, which {model.width} is not"
    if model.width % 2:
        yield "model.width", f"must be even (half sines, half cosines), not {model.width}"
    if model.log_std_min >= model.log_std_max:
        yield "model.log_std_min", f"must be below model.log_std_max = {model.log_std_max:g}, not {model.log_std_min:g}"
    weights = {name: value for name, value in vars(masks).items() if name.endswith("_weight")}
    patterns = parse_patterns(masks.patterns, "masks.patterns").values()
    for pattern in patterns:
        if problem := pattern.problem(model.segment_length):
            yield "masks.patterns", problem
    of_patterns = sum(pattern.weight or 0.0 for pattern in patterns)
    if masks.test_mask_fraction > 0 and sum(weights.values()) + of_patterns == 0:
        yield "masks.test_mask_fraction", f"above 0 needs one of {', '.join(weights)} above 0"
    if masks.test_mask_fraction == 0 and of_patterns > 0:
        yield (
            "masks.patterns",
            "weights above 0 need masks.test_mask_fraction above 0, or no group is trained with them",
        )
    if planner.context_length >= model.segment_length:
        yield (
            "planner.context_length",
            f"must be below model.segment_length = {model.segment_length}, not {planner.context_length}",
        )
    try:
        shares = asked_shares(planner.asked_returns)
    except ValueError as error:
        yield "planner.asked_returns", str(error)
    else:
        if len(shares) > min(planner.num_candidates, config.online.num_candidates):
            yield (
                "planner.asked_returns",
                f"names {len(shares)} returns, more than there are candidates (num_candidates)",
            )
    if planner.refinement_steps and min(planner.num_candidates, config.online.num_candidates) < 2:
        yield (
            "planner.refinement_steps",
            "needs two candidates at least (num_candidates): elites, and others to replace",
        )
    if planner.warm_start and config.online.record_decisions:
        yield (
            "planner.warm_start",
            "leaves no record of a decision (online.record_decisions): the plan before belongs to it",
        )
    if config.pretrain.action_loss == "squared_error":
        for name, noise in (("planner", planner.action_noise), ("online", config.online.action_noise)):
            if noise != "fixed":
                yield f"{name}.action_noise", f"must be fixed with pretrain.action_loss squared_error, not {noise}"
    if config.online.max_weight_lag == 1:  # the learner does updates in twos (online.learner.MOST_UPDATES_AT_ONCE)
        yield "online.max_weight_lag", "must be 0 (no cap) or at least 2"
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", config.device):
        yield "device", f"must be auto, cpu, cuda or cuda:N, not {config.device or 'nothing'}"
