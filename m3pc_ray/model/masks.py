"""Masks over the tokens of a segment: what one model is asked to see, and so which role it plays.

A mask is a boolean array of shape (4, T), rows in the order of `MODALITIES`, True where the token is visible. The
columns of the table in `docs/architecture.md` are these functions; `t` is the index of the current step in the window.
Users' masks are patterns instead (`m3pc_ray.mask_patterns`); the functions are what planning calls.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.config import MaskConfig
from m3pc_ray.mask_patterns import MODALITIES as MODALITIES
from m3pc_ray.mask_patterns import Mask, MaskPattern, parse_patterns

STATES, RETURNS, ACTIONS, REWARDS = range(4)

VISIBLE_RATIOS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Shares of tokens kept by the first step of the random mask (M³PC's code, `mask_ratios`)."""
PIVOT_WEIGHTS = (0.2, 0.1, 0.6, 0.1)
"""Probability that the random mask's pivot falls on each modality (M³PC's code)."""


def _empty(segment_length: int) -> Mask:
    return np.zeros((4, segment_length), dtype=bool)


def return_conditioned(segment_length: int, t: int) -> Mask:
    """RCBC: states up to t, all returns, past actions; asked for actions from t on."""
    mask = _empty(segment_length)
    mask[STATES, : t + 1] = True
    mask[RETURNS] = True
    mask[ACTIONS, :t] = True
    return mask


def forward_dynamics(segment_length: int, t: int) -> Mask:
    """FD: states up to t and all actions; asked for later states (and rewards)."""
    mask = _empty(segment_length)
    mask[STATES, : t + 1] = True
    mask[ACTIONS] = True
    return mask


def reward_prediction(segment_length: int, t: int = 0) -> Mask:
    """RP: all states and actions; asked for rewards and returns. The same for every t."""
    mask = _empty(segment_length)
    mask[STATES] = True
    mask[ACTIONS] = True
    return mask


def inverse_dynamics(segment_length: int, t: int) -> Mask:
    """ID: all states and past actions; asked for actions from t on."""
    mask = _empty(segment_length)
    mask[STATES] = True
    mask[ACTIONS, :t] = True
    return mask


def path_inpainting(segment_length: int, t: int, goals: Sequence[int]) -> Mask:
    """PI: states up to t and at the goal steps, past actions; asked for the states between."""
    mask = _empty(segment_length)
    mask[STATES, : t + 1] = True
    mask[STATES, list(goals)] = True
    mask[ACTIONS, :t] = True
    return mask


def goal(segment_length: int, t: int, goal_step: int, history: bool = False) -> Mask:
    """GOAL, the single-mask baseline: the state at t and the goal (paper), with the history too (authors' code)."""
    mask = _empty(segment_length)
    mask[STATES, t] = True
    if history:
        mask[STATES, :t] = True
        mask[ACTIONS, :t] = True
    mask[STATES, goal_step] = True
    return mask


def behaviour_cloning(segment_length: int, t: int) -> Mask:
    """BC: states up to t and past actions; asked for the action at t."""
    mask = _empty(segment_length)
    mask[STATES, : t + 1] = True
    mask[ACTIONS, :t] = True
    return mask


def random_mask(
    rng: np.random.Generator,
    segment_length: int,
    visible_ratios: Sequence[float] = VISIBLE_RATIOS,
    pivot_weights: Sequence[float] = PIVOT_WEIGHTS,
) -> Mask:
    """The training mask of M³PC: random positions kept per modality, then everything from a random pivot on hidden.

    Modalities before the pivot's in the order of `MODALITIES` keep steps <= pivot, the pivot's and later ones keep
    steps < pivot. A mask that would hide every token is drawn again.
    """
    while True:
        mask = _empty(segment_length)
        for modality in range(4):
            kept = round(rng.choice(visible_ratios) * segment_length)
            mask[modality, rng.permutation(segment_length)[:kept]] = True
        pivot_step = int(rng.integers(segment_length))
        pivot_modality = int(rng.choice(4, p=pivot_weights))
        for modality in range(4):
            first_hidden = pivot_step + 1 if modality < pivot_modality else pivot_step
            mask[modality, first_hidden:] = False
        if mask.any():
            return mask


TEST_MASKS = (
    "return_conditioned",
    "forward_dynamics",
    "reward_prediction",
    "inverse_dynamics",
    "path_inpainting",
    "goal",
    "behaviour_cloning",
)


def make_test_mask(
    name: str, segment_length: int, t: int, goals: Sequence[int] | None = None, history: bool = True
) -> Mask:
    """The test-time mask called `name` at current step t.

    `goals` (default: the last step) matter to inpainting, and the last of them to the single goal mask, which sees the
    history or not.

    Raises:
        KeyError: `name` is not one of `TEST_MASKS`.
    """
    steps = [segment_length - 1] if goals is None else list(goals)
    if name == "path_inpainting":
        return path_inpainting(segment_length, t, steps)
    if name == "goal":
        return goal(segment_length, t, max(steps), history)
    return {
        "return_conditioned": return_conditioned,
        "forward_dynamics": forward_dynamics,
        "reward_prediction": reward_prediction,
        "inverse_dynamics": inverse_dynamics,
        "behaviour_cloning": behaviour_cloning,
    }[name](segment_length, t)


def user_patterns(config: MaskConfig) -> tuple[MaskPattern, ...]:
    """The user's patterns of a configuration."""
    return _parsed(json.dumps(config.patterns)) if config.patterns else ()


@functools.lru_cache(maxsize=8)
def _parsed(definitions: str) -> tuple[MaskPattern, ...]:
    """Parsed once and not at every draw of training."""
    return tuple(parse_patterns(json.loads(definitions), "masks.patterns", weights_needed=True).values())


def test_mask_probabilities(config: MaskConfig) -> NDArray[np.float64]:
    """Probability of each of `TEST_MASKS`, then of each of the user's patterns, among the test-time masks of training.

    Shape (7 + patterns,).
    """
    weights = np.array(
        [
            config.rcbc_weight,
            config.forward_dynamics_weight,
            config.reward_prediction_weight,
            config.inverse_dynamics_weight,
            config.path_inpainting_weight,
            config.goal_weight,
            config.behaviour_cloning_weight,
            *(pattern.weight or 0.0 for pattern in user_patterns(config)),
        ]
    )
    return weights / weights.sum()


def draw_masks(rng: np.random.Generator, segment_length: int, config: MaskConfig) -> list[Mask]:
    """One mask for each mask group of a batch.

    `config.groups * config.test_mask_fraction` of them are test-time masks, the user's patterns among them, at a
    uniform step t (the fractional part decided by chance), the others random ones.
    """
    expected = config.groups * config.test_mask_fraction
    num_test = int(expected) + int(rng.random() < expected - int(expected))
    masks = [random_mask(rng, segment_length) for _ in range(config.groups - num_test)]
    for _ in range(num_test):
        probabilities = test_mask_probabilities(config)
        chosen = int(rng.choice(len(probabilities), p=probabilities))
        t = int(rng.integers(segment_length))
        goals = draw_goals(rng, segment_length, t)
        history = bool(rng.random() < 0.5)
        if chosen < len(TEST_MASKS):
            masks.append(make_test_mask(TEST_MASKS[chosen], segment_length, t, goals, history))
        else:
            pattern = user_patterns(config)[chosen - len(TEST_MASKS)]
            masks.append(pattern.visible(segment_length, t, goals, rng))
    return masks


def draw_goals(rng: np.random.Generator, segment_length: int, t: int) -> list[int]:
    """Goal steps to train with: in half of the draws one later step, else each later step with probability one half.

    At least one; the current step itself where it is the window's last, which asks for no path.
    """
    later = np.arange(min(t + 1, segment_length - 1), segment_length)
    if rng.random() < 0.5:
        return [int(rng.choice(later))]
    chosen = later[rng.random(len(later)) < 0.5]
    return [int(step) for step in chosen] or [int(rng.choice(later))]
