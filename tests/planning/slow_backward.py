"""Backward planning written out: one environment, masks drawn by hand, loops instead of indexing."""

from __future__ import annotations

import numpy as np
import torch

from m3pc_ray.goals.goal_window import GoalWindow
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.planning.context import PlanningContext


def slow_backward(
    model: TrajectoryModel,
    context: PlanningContext,
    goals: GoalWindow,
    row: int,
    planner: str,
    completion_rounds: int,
    goal_mask_sees: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Action (action_dim,) by the mode, and path (T, observation_dim), of one environment."""
    length, t = model.config.segment_length, int(context.positions[row])
    wanted = {int(slot): goals.states[row, g] for g, slot in enumerate(goals.slots[row]) if slot >= 0}
    if planner == "goal_mask":
        wanted = {min(wanted): wanted[min(wanted)]}
    if planner == "bc":
        wanted = {}

    def ask(states: dict[int, np.ndarray], actions: int, first_action: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Raw states (T, observation_dim) and the action at t, given visible states and actions."""
        mask = np.zeros((4, length), dtype=bool)
        tokens = {
            "states": torch.full((1, length, model.observation_dim), 7.0),  # never read where hidden
            "actions": torch.full((1, length, model.action_dim), 0.7),
            "returns": torch.full((1, length, 1), 7.0),
            "rewards": torch.full((1, length, 1), 7.0),
        }
        for step, state in states.items():
            tokens["states"][0, step] = model.normalise("states", torch.as_tensor(state))
            mask[0, step] = True
        for step in range(first_action, actions):
            tokens["actions"][0, step] = torch.as_tensor(context.actions[row, step])
            mask[2, step] = True
        prediction = model(tokens, mask)
        raw = model.denormalise("states", prediction.states[0]).numpy()
        return raw, prediction.actions.mode()[0, t].numpy()

    past = {step: context.observations[row, step] for step in range(t + 1)}
    if any(np.isnan(goal).any() for goal in wanted.values()):
        guess, _ = ask(past, t)
        for _ in range(completion_rounds):
            filled = {step: np.where(np.isnan(goal), guess[step], goal) for step, goal in wanted.items()}
            guess, _ = ask(past | filled, t)
        wanted = {step: np.where(np.isnan(goal), guess[step], goal) for step, goal in wanted.items()}
    if planner == "backward":
        inpainted, _ = ask(past | wanted, t)
        seen = {step: inpainted[step] for step in range(length)} | wanted | past
        _, action = ask(seen, t)
    elif planner == "goal_mask" and goal_mask_sees == "state":
        seen = {t: past[t]} | wanted
        _, action = ask(seen, 0)
    else:
        seen = past | wanted
        _, action = ask(seen, t)
    path = np.full((length, model.observation_dim), np.nan, dtype=np.float32)
    for step, state in (seen | past).items():
        path[step] = state
    return action, path
