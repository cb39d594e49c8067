"""The section of a page that shows a recorded episode's decisions, one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from m3pc_ray.report.page.section import Section
from m3pc_ray.report.plans.packing import Scales, packed_bytes
from m3pc_ray.report.plans.record import PlanRecord

MOST_LINES, FEWEST_LINES = 24, 6
"""Candidates drawn at a decision: a third the best, a third the worst, a third drawn at random of the rest."""
BUDGET = 2_800_000
"""Characters of data that a page should not exceed; fewer candidates are drawn where it would."""
BANDS = (5, 25, 50, 75, 95)
"""Percentiles of all candidates that are kept for every entry and step."""
BINS = 24
_HERE = Path(__file__).parent


def plan_section(record: PlanRecord, title: str = "Plans") -> tuple[Section, str]:
    """The section, and in one sentence what of the record it leaves out."""
    about, kept, number = record.about, len(record["steps"]), record["candidates"].shape[1]
    lines = min(number, _lines(record))
    states = Scales.of(record["observations"], record["states"], record["planned_states"], *_optional(record))
    actions = Scales.of(record["actions"], record["candidates"], record["planned"])
    rewards = Scales.of(record["rewards"][:, None])
    moments = [_moment(record, row, lines, states, actions) for row in range(kept)]
    data: dict[str, Any] = {
        "about": {name: value for name, value in about.items() if name not in ("state_names", "action_names")},
        "states": {"names": about["state_names"], "ranges": states.ranges(), "shown": _readable(about["state_names"])},
        "actions": {"names": about["action_names"], "ranges": actions.ranges()},
        "bands": list(BANDS),
        "candidates": number,
        "episode": {
            "states": states.pack(record["observations"]),
            "actions": actions.pack(record["actions"]),
            "rewards": rewards.pack(record["rewards"][:, None]),
            "rewardRange": rewards.ranges(),
        },
        "moments": moments,
    }
    if "bodies_real" in record.arrays:
        data["bodies"] = _bodies(record)
    steps = len(record["actions"])
    sentence = f"{kept} of the episode's {steps} decisions; at each, " if kept < steps else "Every decision; at each, "
    third = lines // 3
    sentence += (
        f"lines for all {number} candidates."
        if lines == number
        else f"lines for {lines} of {number} candidates ({third} best, {third} worst, the others at random); "
        "bands and histogram show all."
    )
    html = (_HERE / "plans.html").read_text(encoding="utf-8").replace("{{left out}}", sentence)
    scripts = [(_HERE / name).read_text(encoding="utf-8") for name in ("plans.js",)]
    return Section(title, html, scripts, [(_HERE / "plans.css").read_text(encoding="utf-8")], data), sentence


def _optional(record: PlanRecord) -> list[npt.NDArray[Any]]:
    carried = record.get("carried_out")
    return [] if carried is None else [carried]


def _lines(record: PlanRecord) -> int:
    """How many candidates a decision's picture has room for."""
    kept, _, longest, acting = record["candidates"].shape
    seen = record["observations"].shape[1]
    line = packed_bytes(longest * acting + (longest - 1) * seen)
    always = (len(BANDS) + 2) * line + 1500
    if "bodies_real" in record.arrays:
        always += packed_bytes(2 * longest * len(record["body_radii"]) * 4)
    room = (BUDGET - packed_bytes(len(record["actions"]) * (acting + seen + 1))) / kept - always
    return int(np.clip(room // line // 3 * 3, FEWEST_LINES, MOST_LINES))


def _moment(record: PlanRecord, row: int, lines: int, states: Scales, actions: Scales) -> dict[str, Any]:
    """One decision for the page; lists of numbers end at its own horizon."""
    step, horizon = int(record["steps"][row]), int(record["horizons"][row])
    utilities, probabilities = record["utilities"][row], record["probabilities"][row].astype(np.float64)
    chosen = int(record["chosen"][row])
    drawn = choose_lines(utilities, lines, chosen, step)
    candidates, predicted = record["candidates"][row, :, :horizon], record["states"][row, :, : horizon - 1]
    planned = record["planned_states"][row, : horizon - 1]
    real = np.full_like(planned, np.nan)
    after = record["observations"][step + 1 : step + horizon]
    real[: len(after)] = after
    carried = record.get("carried_out")
    counts, edges = np.histogram(utilities, BINS)
    mass, _ = np.histogram(utilities, edges, weights=probabilities)
    moment = {
        "step": step,
        "horizon": horizon,
        "lines": drawn.tolist(),
        "utilities": _rounded(utilities[drawn]),
        "probabilities": _rounded(probabilities[drawn]),
        "lowest": float(utilities.min()),
        "highest": float(utilities.max()),
        "mean": float(utilities.mean(dtype=np.float64)),
        "spread": float(utilities.std(dtype=np.float64)),
        "counts": counts.tolist(),
        "mass": _rounded(mass),
        "effective": float(1.0 / np.square(probabilities).sum()),
        "chosen": chosen,
        "chosenProbability": float(probabilities[chosen]) if chosen >= 0 else None,
        "largestProbability": float(probabilities.max()),
        "plannedUtility": float(record["planned_utilities"][row]),
        "states": states.pack(predicted[drawn]),
        "actions": actions.pack(candidates[drawn]),
        "stateBands": states.pack(np.percentile(predicted, BANDS, axis=0)),
        "actionBands": actions.pack(np.percentile(candidates, BANDS, axis=0)),
        "plannedStates": states.pack(planned),
        "plannedActions": actions.pack(record["planned"][row, :horizon]),
        "error": errors(planned, real, record["states_std"]),
    }
    if carried is not None:
        followed = carried[row, : horizon - 1]
        moment["carriedStates"] = states.pack(followed)
        moment["carriedError"] = errors(planned, followed, record["states_std"])
    return moment


def choose_lines(utilities: npt.NDArray[Any], lines: int, chosen: int, seed: int) -> npt.NDArray[np.int64]:
    """(lines or one more,) candidates to draw, by rising utility: best, worst, some at random, and the chosen one."""
    order = np.argsort(utilities, kind="stable")
    if lines >= len(order):
        return order
    third = lines // 3
    middle = np.random.default_rng(seed).choice(order[third : len(order) - third], lines - 2 * third, replace=False)
    wanted = {*order[:third].tolist(), *order[len(order) - third :].tolist(), *middle.tolist()}
    if chosen >= 0:
        wanted.add(chosen)
    return np.array([candidate for candidate in order.tolist() if candidate in wanted], dtype=np.int64)


def errors(planned: npt.NDArray[Any], real: npt.NDArray[Any], std: npt.NDArray[Any]) -> list[float | None]:
    """Root mean square of planned minus real states (steps, obs), each entry in its standard deviations, by step."""
    differences = (planned.astype(np.float64) - real) / std
    values = np.sqrt(np.square(differences).mean(axis=1))
    return [round(float(value), 5) if np.isfinite(value) else None for value in values]


def _bodies(record: PlanRecord) -> dict[str, Any]:
    """Figures of all decisions: real and planned, one packed text a decision."""
    both = np.stack([record["bodies_real"], record["bodies_planned"]], axis=1)  # (S, 2, H, capsules, 2, 2)
    scales = Scales.of(both)
    horizons = record["horizons"]
    return {
        "radii": _rounded(record["body_radii"]),
        "limbs": record["body_limbs"].tolist(),
        "ground": record.about.get("ground"),
        "ranges": scales.ranges(),
        "packed": [scales.pack(figures[:, :horizon]) for figures, horizon in zip(both, horizons, strict=True)],
    }


def _readable(names: list[str]) -> list[int]:
    """Entries shown at first: height and angle of the body and how fast it moves, else the first three."""
    wanted = [index for index, name in enumerate(names) if name.startswith("forward velocity")]
    return [*[index for index in range(min(len(names), 3)) if index not in wanted][: 3 - len(wanted)], *wanted]


def _rounded(values: npt.NDArray[Any]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]
