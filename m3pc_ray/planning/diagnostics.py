"""How decided a planner's decisions are, from what it considered; no simulator, no further model pass.

Whether it is right is another question: `m3pc_ray.evaluation.diagnostics` replays candidates in the simulator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.planning.planner import Plan


def decision_statistics(plan: Plan) -> dict[str, NDArray[np.float64]]:
    """Statistics of each decision of a plan that was made with `details=True`; arrays of shape (B,).

    - effective_sample_size: 1 / sum P²; 1 means that one candidate decides, N that utilities hardly matter.
    - effective_fraction: the same divided by N.
    - utility_spread: standard deviation of the utilities over the candidates, in units of reward.
    - utility_range: largest less smallest utility.
    - greatest_probability: P of the likeliest candidate.
    - expected_gain: P-weighted mean utility less the plain mean, what the planner thinks choosing is worth.
    - action_spread: standard deviation of the candidates' first actions, mean over action dimensions.
    - action_shift: root mean square, over action dimensions, of the P-weighted first action less the plain mean.

    Raises:
        ValueError: the plan has no details.
    """
    details = plan.details
    if details is None:
        raise ValueError("a plan without details cannot be examined: plan(..., details=True), guide return or critic")
    utilities = details.utilities.astype(np.float64)
    probabilities = details.probabilities.astype(np.float64)
    first_actions = details.candidates[:, :, 0].astype(np.float64)
    weighted_action = (probabilities[..., None] * first_actions).sum(1)
    effective = details.effective_sample_size.astype(np.float64)
    return {
        "effective_sample_size": effective,
        "effective_fraction": effective / utilities.shape[1],
        "utility_spread": utilities.std(1),
        "utility_range": np.ptp(utilities, axis=1),
        "greatest_probability": probabilities.max(1),
        "expected_gain": (probabilities * utilities).sum(1) - utilities.mean(1),
        "action_spread": first_actions.std(1).mean(-1),
        "action_shift": np.sqrt(np.square(weighted_action - first_actions.mean(1)).mean(-1)),
    }


def summarise_decisions(decisions: Sequence[dict[str, NDArray[np.float64]]]) -> dict[str, float]:
    """Means over all decisions of several plans, and the 10th and 90th percentile (`_p10`, `_p90`) of the spread and
    the effective sample size. Raises ValueError where there is no decision."""
    if not decisions:
        raise ValueError("no decision to summarise")
    summary = {}
    for name in decisions[0]:
        values = np.concatenate([decision[name] for decision in decisions])
        summary[name] = float(values.mean())
        if name in ("effective_sample_size", "utility_spread"):
            summary[f"{name}_p10"], summary[f"{name}_p90"] = (float(q) for q in np.percentile(values, [10, 90]))
    return summary
