"""Backward M³PC: inpaint the path to the goal with one mask, read the actions off it with another.

    window step     0    1    2    3=t   4    5    6    7
    states seen     s    s    s    s     .    .    .    goal      path inpainting (PI): asked for 4, 5, 6
    states seen     s    s    s    s     s'   s'   s'   goal      inverse dynamics (ID): asked for the action at t
    actions seen    a    a    a    .     .    .    .    .

The baselines answer the same request: the single goal mask asks for the action at once, and behaviour cloning does not
look at the goal.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3pc_ray.config import BackwardConfig
from m3pc_ray.errors import UserError
from m3pc_ray.goals.goal_window import GoalWindow
from m3pc_ray.model import masks
from m3pc_ray.model.masks import STATES
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.model.precision import resolve_precision
from m3pc_ray.planning.context import PlanningContext
from m3pc_ray.planning.engine import FastInference
from m3pc_ray.planning.randomness import decision_noise

GoalPlanner = Literal["backward", "goal_mask", "bc"]
GOAL_PLANNERS: tuple[GoalPlanner, ...] = get_args(GoalPlanner)


@dataclass(frozen=True)
class BackwardPlan:
    """Actions (B, action_dim) in (-1, 1), and the path they were read off.

    Args:
        actions: (B, action_dim), to be executed now.
        path: (B, T, observation_dim), raw units: what the inverse-dynamics mask saw, observed up to the current step,
            then inpainted, with the goals (completed where they fix only some dimensions) in their places; NaN beside
            the observed and the goals for the baselines, which inpaint nothing.
    """

    actions: NDArray[np.float32]
    path: NDArray[np.float32]


class BackwardPlanner:
    """Plans to goals for many environments at once.

    Args:
        model: the trajectory model. The planner works on its weights as they were at the last `refresh()`.
        config: settings.
        device: where to compute, such as `cpu` or `cuda:1`.

    Raises:
        UserError: `config.context_length` leaves no step for a goal.
    """

    def __init__(self, model: TrajectoryModel, config: BackwardConfig, device: torch.device | str = "cpu") -> None:
        self.segment_length = model.config.segment_length
        if not 0 <= config.context_length < self.segment_length - 1:
            raise UserError(
                f"backward.context_length is {config.context_length}; segments of {self.segment_length} steps allow 0 "
                f"to {self.segment_length - 2}, so that a goal stands after the current step"
            )
        self.config, self.device = config, torch.device(device)
        self.dtype = resolve_precision(config.precision, self.device)
        self._source = model
        self._model = copy.deepcopy(model).to(self.device).eval().requires_grad_(False)
        self._inference = FastInference(self._model, self.dtype, self.device)

    @property
    def model(self) -> TrajectoryModel:
        """The planner's own copy of the model; not to be trained."""
        return self._model

    def refresh(self) -> None:
        """Takes over the present weights of the model the planner was made with."""
        self._model.load_state_dict(self._source.state_dict())
        self._inference.refresh()

    @torch.inference_mode()
    def plan(
        self, context: PlanningContext, goals: GoalWindow, planner: GoalPlanner = "backward", sample: bool = False
    ) -> BackwardPlan:
        """One action for every environment of the context.

        Args:
            goals: what each environment is to reach inside its window.
            planner: `backward`, or a baseline: `goal_mask`, `bc`.
            sample: draw the action of the model's distribution instead of taking its mode.

        Raises:
            UserError: the planner is unknown, or context or goals are malformed or not finite.
        """
        if planner not in GOAL_PLANNERS:
            raise UserError(f"planner is {planner!r}; it must be one of {', '.join(GOAL_PLANNERS)}")
        context.check(self._model.observation_dim, self._model.action_dim)
        check_goals(goals, context, self._model.observation_dim, self.segment_length)
        actions = np.empty((len(context), self._model.action_dim), dtype=np.float32)
        path = np.empty((len(context), self.segment_length, self._model.observation_dim), dtype=np.float32)
        # A mask belongs to a whole batch: environments with the same current step and goal steps go together.
        layout = np.concatenate([context.positions[:, None], np.sort(goals.slots, axis=1)], axis=1)
        for rows in _groups(layout):
            actions[rows], path[rows] = self._plan_group(context.select(rows), goals.select(rows), planner, sample)
        return BackwardPlan(actions, path)

    def _plan_group(
        self, context: PlanningContext, goals: GoalWindow, planner: GoalPlanner, sample: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Actions and paths, as in `BackwardPlan`, of environments whose goals stand at the same window steps."""
        length, t = self.segment_length, int(context.positions[0])
        known = _Known(
            states=self._model.normalise("states", self._tensor(context.observations[:, : t + 1])),
            actions=self._tensor(context.actions[:, :t]),
        )
        asked, steps = self._ordered(goals)  # (B, G, observation_dim), normalised, NaN where free
        if planner == "bc":
            shown, mask = self._tokens(known), masks.behaviour_cloning(length, t)
        else:
            if planner == "goal_mask":  # one pass, one goal: the next
                asked, steps = asked[:, :1], steps[:1]
            reached = self._complete(known, asked, steps)
            shown = self._tokens(known, reached, steps)
            if planner == "goal_mask":
                mask = masks.goal(length, t, steps[0], self.config.goal_mask_sees == "history")
            else:
                between = [step for step in range(t + 1, length) if step not in steps]
                if between:
                    inpainting = masks.path_inpainting(length, t, steps)
                    shown["states"][:, between] = self._inference.states_behind(shown, inpainting, between)
                mask = masks.inverse_dynamics(length, t)
        distribution = self._inference.action_behind(shown, mask, t)
        if sample:
            drawn, _ = decision_noise(context.keys, 1, 1, self._model.action_dim)
            chosen = distribution.sample(self._tensor(drawn[:, 0, 0]))
        else:
            chosen = distribution.mode()
        seen = torch.as_tensor(mask[STATES], device=self.device)
        path = torch.where(seen[:, None], self._model.denormalise("states", shown["states"]), torch.nan)
        path[:, : t + 1] = self._tensor(context.observations[:, : t + 1])
        return chosen.cpu().numpy(), path.cpu().numpy()

    def _complete(self, known: _Known, asked: Tensor, steps: list[int]) -> Tensor:
        """Goals (B, G, observation_dim) without NaN: free dimensions filled in by the model, the others untouched.

        First with what the model expects there without any goal, then, `backward.completion_rounds` times, with its
        reconstruction of the goals as they stand: a token holds a whole state, so each round makes the free dimensions
        fit the fixed ones and the past better.
        """
        free = torch.isnan(asked)
        if not free.any():
            return asked
        t = known.position
        past_only = masks.behaviour_cloning(self.segment_length, t)
        guess = self._inference.states_behind(self._tokens(known), past_only, steps)
        inpainting = masks.path_inpainting(self.segment_length, t, steps)
        for _ in range(self.config.completion_rounds):
            tokens = self._tokens(known, torch.where(free, guess, asked), steps)
            guess = self._inference.states_behind(tokens, inpainting, steps)
        return torch.where(free, guess, asked)

    def _ordered(self, goals: GoalWindow) -> tuple[Tensor, list[int]]:
        """Goals by the step they stand at, normalised, without the unused places."""
        order = np.argsort(goals.slots, axis=1, kind="stable")
        states = np.take_along_axis(goals.states, order[:, :, None], axis=1)
        steps = np.sort(goals.slots[0])
        used = steps >= 0
        return self._model.normalise("states", self._tensor(states[:, used])), [int(step) for step in steps[used]]

    def _tokens(self, known: _Known, goals: Tensor | None = None, steps: list[int] | None = None) -> dict[str, Tensor]:
        """Tokens with the past and the goals in their places, zero where nothing is known."""
        batch, length = known.states.shape[0], self.segment_length
        dims = {"states": self._model.observation_dim, "returns": 1, "actions": self._model.action_dim, "rewards": 1}
        tokens = {name: torch.zeros(batch, length, dim, device=self.device) for name, dim in dims.items()}
        tokens["states"][:, : known.position + 1] = known.states
        tokens["actions"][:, : known.position] = known.actions
        if goals is not None and steps is not None:
            tokens["states"][:, steps] = goals
        return tokens

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


@dataclass(frozen=True)
class _Known:
    states: Tensor  # (B, t + 1, observation_dim), normalised
    actions: Tensor  # (B, t, action_dim)

    @property
    def position(self) -> int:
        return self.actions.shape[1]


def _groups(layout: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows that have the same (columns,) layout, together."""
    _, group = np.unique(layout, axis=0, return_inverse=True)
    return [np.flatnonzero(group == index) for index in range(int(group.max()) + 1)] if len(layout) else []


def check_goals(goals: GoalWindow, context: PlanningContext, observation_dim: int, segment_length: int) -> None:
    """Raises UserError where shapes do not fit, or a slot lies outside of what is to come in its window."""
    batch, count = len(context), goals.slots.shape[-1]
    if goals.slots.shape != (batch, count) or goals.states.shape != (batch, count, observation_dim):
        raise UserError(
            f"goals: states {goals.states.shape} and slots {goals.slots.shape} do not fit {batch} environments with "
            f"{observation_dim} observed dimensions"
        )
    used = goals.slots >= 0
    if not used.any(axis=1).all():
        raise UserError(f"goals: environment {int(np.argmin(used.any(axis=1)))} has none; each needs at least one")
    wrong = used & ((goals.slots <= context.positions[:, None]) | (goals.slots >= segment_length))
    if wrong.any():
        row, goal = np.argwhere(wrong)[0]
        now = int(context.positions[row])
        raise UserError(
            f"goals: environment {row} has goal {goal} at window step {goals.slots[row, goal]}; from its step {now} "
            f"on, 1 to {segment_length - 1 - now} steps ahead can be seen"
        )
    values = goals.states[used]
    if np.isinf(values).any() or np.isnan(values).all(axis=-1).any():
        raise UserError("goals: a goal is infinite in some dimension, or fixes none")
    for row, slots in enumerate(goals.slots):
        mine = slots[slots >= 0]
        if len(np.unique(mine)) < len(mine):
            raise UserError(f"goals: environment {row} has two goals at the same window step")
