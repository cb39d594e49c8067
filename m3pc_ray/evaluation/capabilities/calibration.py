"""Whether the action distribution means what it says: are 90 % intervals 90 %?

Per action dimension the distribution is a Gaussian of u = atanh(a), so the share of probability below a logged action
is Phi((atanh(a) - mean) / std), its probability integral transform (PIT); over many actions of a calibrated
distribution PITs are uniform.

Logged actions at the bounds are clipped values: they are known only to lie at 1 - action_clip or beyond, as the
likelihood that trained the model has it. Their PIT is known only to lie between the share of probability below the
bound and 1 (or 0 and the share below the lower bound). It is spread evenly over that range, the non-randomised PIT of
Czado, Gneiting and Held, Predictive model assessment for count data, Biometrics 65 (2009): for a calibrated
distribution the mean is still uniform, and no random number is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from m3pc_ray.evaluation.capabilities.windows import Windows, described, mean_and_error, predict
from m3pc_ray.model.masks import return_conditioned

if TYPE_CHECKING:
    from m3pc_ray.evaluation.capabilities.windows import FloatArray
    from m3pc_ray.model.distribution import SquashedGaussian
    from m3pc_ray.training.assemble import Models

NOMINAL = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
PIT_BINS = 20


def pit_ranges(distribution: SquashedGaussian, actions: torch.Tensor) -> tuple[FloatArray, FloatArray]:
    """(lowest, highest) PIT of every action (..., action_dim): the same, except where the action is at a bound."""
    bound = 1.0 - distribution.action_clip
    pre_tanh = torch.atanh(actions.double().clamp(-bound, bound))
    below = torch.special.ndtr((pre_tanh - distribution.mean.double()) * torch.exp(-distribution.log_std.double()))
    lowest = torch.where(actions <= -bound, torch.zeros_like(below), below)
    highest = torch.where(actions >= bound, torch.ones_like(below), below)
    return lowest.cpu().numpy(), highest.cpu().numpy()


def share_below(lowest: FloatArray, highest: FloatArray, level: float) -> FloatArray:
    """How much of each PIT, spread evenly over its range, lies below `level`; 0 or 1 for one that is known exactly."""
    width = highest - lowest
    inside = np.clip((level - lowest) / np.where(width > 0, width, 1.0), 0.0, 1.0)
    return np.where(width > 0, inside, (lowest < level).astype(np.float64))


def covered(lowest: FloatArray, highest: FloatArray, nominal: float) -> FloatArray:
    """How much of each PIT lies in the middle `nominal` of the distribution, 0 to 1, the shape of the PITs."""
    above, below = 0.5 + 0.5 * nominal, 0.5 - 0.5 * nominal
    return share_below(lowest, highest, above) - share_below(lowest, highest, below)


def pit_histogram(lowest: FloatArray, highest: FloatArray, bins: int = PIT_BINS) -> npt.NDArray[np.float64]:
    """(bins,) share of all PITs in each of `bins` equal parts of 0 to 1; each 1 / bins where they are uniform."""
    inner = [share_below(lowest, highest, level).mean() for level in np.linspace(0.0, 1.0, bins + 1)[1:-1]]
    return np.diff(np.array([0.0, *inner, 1.0]))


def calibration_rows(models: Models, windows: Windows, t: int) -> list[dict[str, Any]]:
    """Coverage of the action at step t under the return-conditioned mask with the returns that were really earned.

    A row for every nominal share: `covered` over all dimensions, `covered_per_dimension`, `error` = covered - nominal
    (below 0: the distribution is too narrow). One row `calibration_summary`: `error` is the mean distance of covered
    from nominal, with the negative log-likelihood and the entropy (nats, summed over dimensions), the PIT histogram and
    the share of action entries at a bound.
    """
    length = models.model.config.segment_length
    prediction = predict(models.model, windows, return_conditioned(length, t)).actions
    distribution = prediction.map(lambda values: values[:, t])
    actions = windows.tokens["actions"][:, t]
    lowest, highest = pit_ranges(distribution, actions)  # (B, action_dim)
    shared = {"mask": "return_conditioned", "context_length": t, "windows": len(windows)}
    rows = []
    for nominal in NOMINAL:
        inside = covered(lowest, highest, nominal)
        mean, error = mean_and_error(inside.mean(axis=1), windows.episodes)
        row: dict[str, Any] = {"capability": "calibration", "nominal": nominal, "covered": mean, "covered_sem": error}
        row |= {"error": mean - nominal, "error_sem": error, "covered_per_dimension": inside.mean(axis=0).tolist()}
        rows.append(row | shared)
    summary: dict[str, Any] = {"capability": "calibration_summary", "unit": "share of probability"}
    summary["error"] = float(np.mean([abs(row["error"]) for row in rows]))
    likelihood = -distribution.log_prob(actions).double().cpu().numpy()
    summary |= described("negative_log_likelihood", likelihood, windows.episodes)
    summary["entropy"] = float(distribution.entropy().mean())
    summary["at_bounds"] = float((actions.abs() >= 1.0 - distribution.action_clip).double().mean())
    summary["pit_histogram"] = pit_histogram(lowest, highest).tolist()
    return [*rows, summary | shared]
