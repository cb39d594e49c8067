"""The agent: a trained run as a policy for anyone's Gymnasium loop.

    agent = Agent.load("runs/hopper", planner="critic")
    environment = gymnasium.make(agent.environment_id)
    observation, _ = environment.reset()
    episode_start = True
    while True:
        action = agent.predict(observation, episode_start)
        observation, reward, terminated, truncated, _ = environment.step(action)
        episode_start = terminated or truncated
        if episode_start:
            observation, _ = environment.reset()

Several environments are rows of one batch: observations (B, observation_dim), `episode_start` (B,), actions (B,
action_dim). The agent keeps the last few steps of every row, which the model needs to see.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from m3pc_ray.config import Guide, PlannerConfig
from m3pc_ray.environments.actions import FloatArray, to_environment_range
from m3pc_ray.episode_memory import EpisodeMemory
from m3pc_ray.errors import UserError

if TYPE_CHECKING:
    from m3pc_ray.planning.context import PlanningContext
    from m3pc_ray.planning.plan import Plan
    from m3pc_ray.planning.planner import ForwardPlanner
    from m3pc_ray.training.assemble import Models
    from m3pc_ray.trajectories.episodes import DatasetMetadata

GUIDES: tuple[Guide, ...] = get_args(Guide)


class Agent:
    """Acts in one or many environments with one planner, remembering what the planner must see.

    Args:
        planner: plans for a batch of environments.
        observation_dim: length of an observation.
        action_low, action_high: (action_dim,), the environment's bounds, in which actions are returned.
        environment_id: the environment the run was trained for.
        guide: `none` (one RCBC pass), `return` (M³PC-M) or `critic` (M³PC-Q); the planner's own setting when None.
        seed: seed of the agent's randomness, which is counter-based: an action depends on the seed, the row's stream
            and the step, never on who else was in the batch.
        metadata: of the data the run was trained on; has the reference scores of evaluation.
        time_limit: steps after which evaluation cuts an episode off; 0: the environment's own limit.
    """

    def __init__(
        self,
        planner: ForwardPlanner,
        *,
        observation_dim: int,
        action_low: npt.ArrayLike,
        action_high: npt.ArrayLike,
        environment_id: str,
        guide: Guide | None = None,
        seed: int = 0,
        metadata: DatasetMetadata | None = None,
        time_limit: int = 0,
    ) -> None:
        self.planner = planner
        self.observation_dim = observation_dim
        self.action_low = np.asarray(action_low, dtype=np.float32)
        self.action_high = np.asarray(action_high, dtype=np.float32)
        self.environment_id = environment_id
        self.seed = seed
        self.metadata = metadata
        self.time_limit = time_limit
        self.guide = planner.config.guide if guide is None else guide
        self._memory = EpisodeMemory(
            observation_dim, self.action_dim, planner.config.context_length, environment_id, seed
        )

    @classmethod
    def load(
        cls,
        run: str | Path,
        checkpoint: int | None = None,
        planner: Guide | None = None,
        device: str | None = None,
        seed: int = 0,
        **overrides: Any,
    ) -> Agent:
        """The agent of a run folder's newest complete checkpoint, or of the one saved at step `checkpoint`.

        `planner` None is the run's own, or `return` where that is `critic` and the run has no trained critic;
        `device` replaces the run's own; `overrides` replace fields of its planner settings, such as
        `num_candidates=256`.
        Raises UserError for a folder that is no run, an unknown setting, and `planner="critic"` without a critic.
        """
        from m3pc_ray.configuration import with_settings
        from m3pc_ray.training.assemble import load_models
        from m3pc_ray.training.run_folder import RunFolder

        models = load_models(RunFolder.open(run), checkpoint, device)
        settings = {f"planner.{name}": value for name, value in overrides.items()}
        config = with_settings(models.config, settings).planner
        if planner is None and config.guide == "critic" and models.critic_updates == 0:
            planner = "return"  # the settings speak of a critic that this run never trained
        return cls.from_models(models, planner, seed, config)

    @classmethod
    def from_models(
        cls,
        models: Models,
        planner: Guide | None = None,
        seed: int = 0,
        config: PlannerConfig | None = None,
        proposer: Models | None = None,
    ) -> Agent:
        """The agent of models in memory, with the run's planner settings or `config`; sees later weights updates only
        through `agent.planner.load_weights`. `proposer`: other models that propose the actions, see
        `training.pairing.paired_models`."""
        from m3pc_ray.planning.planner import ForwardPlanner

        settings = models.config.planner if config is None else config
        critic = models.critic if models.critic_updates > 0 else None
        guide = settings.guide if planner is None else planner
        check_guide(guide, critic is not None)
        return cls(
            ForwardPlanner(
                models.model,
                critic,
                dataclasses.replace(settings, guide=guide),
                models.config.critic.discount,
                models.prompt,
                device=str(next(models.model.parameters()).device),
                proposer=None if proposer is None else proposer.model,
            ),
            observation_dim=models.model.observation_dim,
            action_low=models.action_low,
            action_high=models.action_high,
            environment_id=models.environment_id,
            seed=seed,
            metadata=models.metadata,
            time_limit=models.time_limit,
        )

    @property
    def guide(self) -> Guide:
        """Which planner acts; may be set between calls."""
        return self._guide

    @guide.setter
    def guide(self, guide: Guide) -> None:
        check_guide(guide, self.planner.critic is not None)
        self._guide = guide

    @property
    def action_dim(self) -> int:
        """Length of an action."""
        return len(self.action_low)

    def reset(self) -> None:
        """Forget every episode; the next `predict` starts new ones."""
        self._memory.forget()

    def predict(
        self,
        observation: npt.ArrayLike,
        episode_start: bool | npt.ArrayLike | None = None,
        deterministic: bool = True,
    ) -> FloatArray:
        """The action (action_dim,) for an observation (observation_dim,), or actions (B, action_dim) for a batch.

        Args:
            observation: what the environment shows now: (observation_dim,) or (B, observation_dim).
            episode_start: whether the observation is the first of an episode, for all rows or one flag a row (B,).
                Left out: True at the first call after construction or `reset()`, False later.
            deterministic: act by the mean (of the policy, or probability-weighted over candidates); else sample.

        The agent assumes that the action it returned was executed. Actions are in the environment's bounds.
        Raises UserError for a wrong shape, a NaN or infinite observation, or a changed number of rows.
        """
        batch, single = self._memory.as_batch(observation)
        plan = self.plan(batch, episode_start, deterministic)
        actions = to_environment_range(plan.actions, self.action_low, self.action_high)
        return actions[0] if single else actions

    def plan(
        self,
        observations: npt.ArrayLike,
        episode_start: bool | npt.ArrayLike | None = None,
        deterministic: bool = True,
        *,
        rows: Sequence[int] | npt.NDArray[np.int64] | None = None,
        streams: npt.ArrayLike | None = None,
        details: bool = False,
    ) -> Plan:
        """As `predict` for a batch, but returns the Plan: actions in (-1, 1) and, on request, what was considered.

        Args:
            observations: (B, observation_dim).
            rows: which rows of the first call's batch the observations belong to, all by default; lets finished
                environments drop out of a batch.
            streams: (B,) names of the random streams of rows that start an episode; by default a running number.
            details: fill `Plan.details`.
        """
        noticed = self._memory.notice(observations, episode_start, rows, streams)
        context = self._memory.context(noticed.rows)
        plan = self.planner.plan(context, guide=self._guide, sample=not deterministic, details=details)
        self._memory.decided(noticed.rows, plan.actions, plan.rest)
        return plan

    def context(self, rows: Sequence[int] | npt.NDArray[np.int64] | None = None) -> PlanningContext:
        """What the planner was, or will be, given for the current step of `rows` (default: all): a copy."""
        return self._memory.context(rows)


def check_guide(guide: Guide, has_critic: bool) -> None:
    """Raise UserError when a planner is unknown, or needs a critic that is not there."""
    if guide not in GUIDES:
        raise UserError(f"planner is {guide!r}; it must be one of {', '.join(GUIDES)}")
    if guide == "critic" and not has_critic:
        raise UserError("planner critic: this run has no trained critic; use planner none or return")
