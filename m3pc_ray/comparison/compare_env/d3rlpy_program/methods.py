"""d3rlpy's methods as they are compared: settings, and what each learns from.

What is not named here is d3rlpy's default. docs/comparison.md says where the others come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from d3rlpy.algos import AWACConfig, CalQLConfig, DecisionTransformerConfig, IQLConfig
from d3rlpy.models import VectorEncoderFactory
from d3rlpy.optimizers import AdamFactory, AdamWFactory, WarmupSchedulerFactory

BATCH_SIZE = 256
"""Transitions an update."""
SEQUENCE_BATCH_SIZE = 64
"""Windows of steps an update, of the Decision Transformer."""
WARMUP_UPDATES = 10_000
"""Of the Decision Transformer's learning rate; a tenth of the updates where they are fewer than ten times as many."""
DT_REWARD_SCALE = 1e-3
IQL_RETURN_RANGE = 1000.0
"""Rewards are scaled so that the data's returns span this much."""


@dataclass(frozen=True)
class Method:
    """One entry."""

    create: Callable[[Mapping[str, Any]], Any]
    """The assignment to d3rlpy's algorithm, without networks yet."""
    standardise: bool = False
    """Whether the networks see observations standardised."""
    reward_scale: Callable[[Mapping[str, Any]], float] = lambda _assignment: 1.0
    online_share: float | None = None
    """Share of a batch from what was collected; None: in proportion."""
    whole_episodes: bool = False
    """Whether what is collected is learnt from only when its episode is over, since its returns-to-go count."""
    sequences: bool = False
    """Whether it learns from windows of steps."""


def _iql(_assignment: Mapping[str, Any]) -> Any:
    return IQLConfig(batch_size=BATCH_SIZE).create()


def _iql_scale(assignment: Mapping[str, Any]) -> float:
    spread = assignment["best_return"] - assignment["worst_return"]
    return IQL_RETURN_RANGE / spread if spread > 0.0 else 1.0


def _awac(_assignment: Mapping[str, Any]) -> Any:
    encoder = VectorEncoderFactory([256, 256, 256, 256])
    return AWACConfig(
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        actor_optim_factory=AdamFactory(weight_decay=1e-4),
        batch_size=BATCH_SIZE,
    ).create()


def _cal_ql(_assignment: Mapping[str, Any]) -> Any:
    encoder = VectorEncoderFactory([256, 256, 256])
    return CalQLConfig(
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        alpha_learning_rate=0.0,  # a constant weight, as for the locomotion tasks
        conservative_weight=5.0,
        batch_size=BATCH_SIZE,
    ).create()


def _dt(assignment: Mapping[str, Any]) -> Any:
    warmup = max(1, min(WARMUP_UPDATES, assignment["updates"] // 10))
    return DecisionTransformerConfig(
        batch_size=SEQUENCE_BATCH_SIZE,
        optim_factory=AdamWFactory(
            weight_decay=1e-4,
            clip_grad_norm=0.25,
            lr_scheduler_factory=WarmupSchedulerFactory(warmup_steps=warmup),
        ),
        encoder_factory=VectorEncoderFactory([128], exclude_last_activation=True),
        max_timestep=assignment["time_limit"],
    ).create()


METHODS: dict[str, Method] = {
    "dt": Method(_dt, standardise=True, reward_scale=lambda _assignment: DT_REWARD_SCALE, sequences=True),
    "iql-d3rlpy": Method(_iql, reward_scale=_iql_scale),
    "awac": Method(_awac),
    "cal-ql": Method(_cal_ql, online_share=0.5, whole_episodes=True),
}
"""By the name in the assignment."""
