"""The goal agent: a trained run that steers to waypoints in anyone's Gymnasium loop.

    waypoints = Waypoints(steps, states, "my waypoints")  # states (K, observation_dim), NaN where a dimension is free
    agent = GoalAgent.load("runs/hopper", waypoints)
    action = agent.predict(observation, episode_start)

Everything about batches, episode starts and rows is as with `Agent` (m3pc_ray/agent.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from m3pc_ray.environments.actions import FloatArray, to_environment_range
from m3pc_ray.episode_memory import EpisodeMemory
from m3pc_ray.errors import UserError
from m3pc_ray.goals.schedule import GoalSchedule
from m3pc_ray.goals.waypoints import Waypoints
from m3pc_ray.planning.backward import BackwardPlan, BackwardPlanner, GoalPlanner

if TYPE_CHECKING:
    from m3pc_ray.training.assemble import Models


class GoalAgent:
    """Acts towards waypoints in one or many environments, each with its own clock.

    Args:
        models: of a run.
        waypoints: what is to be reached, and when.
        planner: `backward`, or a baseline: `goal_mask`, `bc`; may be set between episodes.
        seed: seed of the agent's randomness, which matters to sampled actions only.

    Raises:
        UserError: the waypoints have another size than the run's observations.
    """

    def __init__(self, models: Models, waypoints: Waypoints, planner: GoalPlanner = "backward", seed: int = 0) -> None:
        if waypoints.observation_dim != models.model.observation_dim:
            raise UserError(
                f"{waypoints.source}: waypoints have {waypoints.observation_dim} dimensions; {models.environment_id} "
                f"observes {models.model.observation_dim}"
            )
        self.waypoints, self.planner = waypoints, planner
        self.environment_id, self.time_limit = models.environment_id, models.time_limit
        self.action_low, self.action_high = models.action_low, models.action_high
        self.settings = models.config.backward
        self._std = np.asarray(models.statistics.states_std, dtype=np.float32)
        self._backward = BackwardPlanner(
            models.model, self.settings, device=str(next(models.model.parameters()).device)
        )
        self._memory = EpisodeMemory(
            models.model.observation_dim,
            len(self.action_low),
            self.settings.context_length,
            models.environment_id,
            seed,
        )
        self._schedule: GoalSchedule | None = None

    @classmethod
    def load(
        cls,
        run: str | Path,
        waypoints: Waypoints,
        checkpoint: int | None = None,
        planner: GoalPlanner = "backward",
        device: str | None = None,
        seed: int = 0,
        **overrides: Any,
    ) -> GoalAgent:
        """The goal agent of a run folder's newest complete checkpoint, or of the one saved at step `checkpoint`.

        `overrides` replace fields of the run's `backward` settings, such as `goal_slot="last"`.
        Raises UserError for a folder that is no run and an unknown setting.
        """
        from dataclasses import replace

        from m3pc_ray.configuration import with_settings
        from m3pc_ray.training.assemble import load_models
        from m3pc_ray.training.run_folder import RunFolder

        models = load_models(RunFolder.open(run), checkpoint, device)
        config = with_settings(models.config, {f"backward.{name}": value for name, value in overrides.items()})
        return cls(replace(models, config=config), waypoints, planner, seed)

    @property
    def schedule(self) -> GoalSchedule:
        """Which waypoint every row is asked for; raises UserError before the first call."""
        if self._schedule is None:
            raise UserError("the agent has seen no observation yet; call predict first")
        return self._schedule

    def reset(self) -> None:
        """Forget every episode; the next `predict` starts new ones."""
        self._memory.forget()
        self._schedule = None

    def predict(
        self,
        observation: npt.ArrayLike,
        episode_start: bool | npt.ArrayLike | None = None,
        deterministic: bool = True,
    ) -> FloatArray:
        """The action (action_dim,) for an observation (observation_dim,), or actions (B, action_dim) for a batch.

        Arguments, bounds and errors as of `Agent.predict`; `deterministic`: act by the distribution's mode.
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
    ) -> BackwardPlan:
        """As `predict` for a batch, but returns the plan with the path; arguments as of `Agent.plan`."""
        noticed = self._memory.notice(observations, episode_start, rows, streams)
        if self._schedule is None:
            settings = self.settings
            self._schedule = GoalSchedule(
                self.waypoints,
                len(self._memory),
                self._std,
                slot=settings.goal_slot,
                missed=settings.missed,
                wait_steps=settings.wait_steps,
                tolerance=settings.tolerance,
            )
        for row, start, observation in zip(noticed.rows, noticed.starts, noticed.observations, strict=True):
            if start:
                self._schedule.reset(int(row))
            self._schedule.advance(int(row), observation)
        context = self._memory.context(noticed.rows)
        goals = self._schedule.goals(noticed.rows, context.positions, self._backward.segment_length)
        plan = self._backward.plan(context, goals, self.planner, sample=not deterministic)
        self._memory.decided(noticed.rows, plan.actions)
        return plan
