"""D4RL's reference returns and the normalised score made from them: 0 is a random policy, 100 an expert."""

from __future__ import annotations

import re
from typing import overload

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.trajectories.episodes import DatasetMetadata

D4RL_SOURCE = "D4RL, d4rl/infos.py: REF_MIN_SCORE and REF_MAX_SCORE (arXiv 2004.07219)"
D4RL_REFERENCES: dict[str, tuple[float, float]] = {
    "hopper": (-20.272305, 3234.3),
    "halfcheetah": (-280.178953, 12135.0),
    "walker2d": (1.629008, 4592.3),
}
"""Task: return of a random policy, return of an expert; the same for every version and every data set of the task."""


def reference_scores(environment_id: str) -> tuple[float, float] | None:
    """(minimum, maximum) of an environment such as `Hopper-v4`, whatever its version; None when D4RL has none."""
    task = re.sub(r"-v\d+$", "", environment_id.rsplit("/", 1)[-1]).lower()
    return D4RL_REFERENCES.get(task)


@overload
def normalised_score(returns: float, reference: DatasetMetadata | str) -> float | None: ...
@overload
def normalised_score(returns: NDArray[np.floating], reference: DatasetMetadata | str) -> NDArray[np.float64] | None: ...
def normalised_score(
    returns: float | NDArray[np.floating], reference: DatasetMetadata | str
) -> float | NDArray[np.float64] | None:
    """100 x (return - minimum) / (maximum - minimum), of one return or an array of them.

    `reference` is a data set's metadata (its own reference scores come first) or an environment id; None where neither
    has reference scores.
    """
    bounds: tuple[float, float] | None
    if isinstance(reference, str):
        bounds = reference_scores(reference)
    elif reference.reference_min_score is not None and reference.reference_max_score is not None:
        bounds = (reference.reference_min_score, reference.reference_max_score)
    else:
        bounds = reference_scores(reference.environment_id)
    if bounds is None:
        return None
    low, high = bounds
    scores = 100.0 * (np.asarray(returns, dtype=np.float64) - low) / (high - low)
    return float(scores) if scores.ndim == 0 else scores
