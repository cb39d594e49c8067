"""Prediction errors of what a mask pattern asks for, on held-out segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from m3pc_ray.mask_patterns import MODALITIES, MaskPattern
from m3pc_ray.model.losses import group_rows, visibility
from m3pc_ray.model.network import TrajectoryModel
from m3pc_ray.training.data import SegmentData

VALIDATION_SEGMENTS = 1024
"""Most segments a validation looks at: enough for a relative standard error of a few percent."""
RANDOM_MASKS = 32
"""Masks drawn of a random pattern, each for an equal part of the segments."""


@dataclass(frozen=True)
class AskedError:
    """Mean squared error of one modality that a pattern asks for."""

    modality: str
    error: float
    """Over all tokens asked for, hidden and known; states, rewards and returns in the data's variance, actions raw."""
    by_step: dict[int, float]
    """The same for each step of the window that was asked for."""


def held_out_tokens(data: SegmentData, seed: int = 0) -> tuple[dict[str, Tensor], Tensor | None] | None:
    """Tokens of whole segments of `data`, the same ones for the same seed, as `SegmentData.gather` gives them.

    None where no episode is as long as a segment.
    """
    rows, valid = data.index.sample(np.random.default_rng([seed, 7]), min(VALIDATION_SEGMENTS, data.index.num_segments))
    whole = valid.all(axis=1)
    return data.gather(rows[whole], valid[whole]) if whole.any() else None


@torch.no_grad()
def asked_errors(
    model: TrajectoryModel,
    tokens: Mapping[str, Tensor],
    exists: Tensor | None,
    pattern: MaskPattern,
    t: int,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> list[AskedError]:
    """What `pattern` asks for at current step t and hides, against the truth, a row a modality; goals: the last step.

    Args:
        model: in evaluation mode.
        tokens: per modality (B, T, dim), normalised.
        exists: (B, 4, T), which tokens are known; None: all.
        pattern: one without a problem for the model's window length.
        t: current step in the window.
        dtype: of the matrix products.
        seed: of the masks of random patterns.
    """
    length, batch = model.config.segment_length, tokens["states"].shape[0]
    rng = np.random.default_rng([seed, 8])
    rows = group_rows(batch, min(RANDOM_MASKS, batch) if pattern.is_random else 1)
    groups = [(count, pattern.visible(length, t, rng=rng)) for count in rows]
    prediction = model(tokens, groups, exists, dtype)
    device = tokens["states"].device
    wanted = torch.as_tensor(pattern.asked(length, t), device=device) & ~visibility(groups, device)
    if exists is not None:
        wanted = wanted & exists
    errors = []
    for index, modality in enumerate(MODALITIES):
        predicted = prediction.actions.mode() if modality == "actions" else getattr(prediction, modality)
        counts = wanted[:, index].sum(0)
        if not int(counts.sum()):
            continue
        squared = (predicted - tokens[modality]).square().mean(-1)  # (B, T)
        sums = torch.where(wanted[:, index], squared, 0.0).sum(0)
        by_step = {step: float(sums[step] / counts[step]) for step in range(length) if int(counts[step])}
        errors.append(AskedError(modality, float(sums.sum() / counts.sum()), by_step))
    return errors
