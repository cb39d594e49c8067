"""Counter-based randomness: a decision's numbers depend on its key alone, never on its company in the batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def decision_noise(
    keys: NDArray[np.uint64], num_candidates: int, steps: int, action_dim: int, refinement: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Randomness of B decisions from their keys (B, 3): run seed, stream, step.

    Philox is keyed by seed and stream; the step is the highest word of its counter and the number of the refinement, 0
    for the first candidates, the next, so that the numbers of two steps or refinements can never overlap. About 0.05 ms
    a decision with 128 candidates.

    Returns:
        Standard normal noise (B, num_candidates, steps, action_dim) and one uniform in [0, 1) each, (B,).
    """
    noise = np.empty((len(keys), num_candidates, steps, action_dim), dtype=np.float32)
    uniform = np.empty(len(keys), dtype=np.float64)
    for row, (seed, stream, step) in enumerate(np.asarray(keys, dtype=np.uint64)):
        counter = np.array([0, 0, refinement, step], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=np.array([seed, stream]), counter=counter))
        uniform[row] = generator.random()
        generator.standard_normal(out=noise[row], dtype=np.float32)
    return noise, uniform
